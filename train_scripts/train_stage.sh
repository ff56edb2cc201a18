# Sourced by stage1.sh and stage2.sh with STAGE (1 or 2) and START_MODEL set: fills in what the user left out, starts
# the tiny world's retriever where it is needed, and trains.
source "$ROOT/train_scripts/services.sh"

has_flag --run-dir || FLAGS+=(--run-dir "$ROOT/runs/$PRESET/stage$STAGE")
if [[ "$PRESET" == tiny ]]; then
    if has_flag --dry-run; then
        WORLD="$ROOT/runs/tiny_world_seed$SEED" RETRIEVER_URL="${RETRIEVER_URL:-http://127.0.0.1:8000}"
    else
        has_flag --data || use_tiny_world "$SEED" "$SEED"
        has_flag --retriever-url || start_retriever "$WORLD/corpus.jsonl"
    fi
    has_flag --data || FLAGS+=(--data "$WORLD/stage$STAGE.jsonl")
    has_flag --retriever-url || FLAGS+=(--retriever-url "$RETRIEVER_URL")
elif has_flag --dry-run; then
    has_flag --data || FLAGS+=(--data "stage_$STAGE.jsonl")
    has_flag --retriever-url || FLAGS+=(--retriever-url http://127.0.0.1:8000)
fi
forward "$PYTHON" -m r1_searcher.train --recipe "${RECIPES[STAGE - 1]}" --actor.model_name_or_path "$START_MODEL" \
    "${COMMON_FLAGS[@]}" ${FLAGS[@]+"${FLAGS[@]}"} ${ARGS[@]+"${ARGS[@]}"}
