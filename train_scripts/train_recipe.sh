# Sourced by the training scripts with RECIPE, START_MODEL, RUN_NAME (folder under runs/PRESET) and DATA_NAME (file of
# questions) set, FLAGS optional: fills in what the user left out, starts the tiny world's services where they are
# needed, and trains.
source "$ROOT/train_scripts/services.sh"

has_flag --run-dir || FLAGS+=(--run-dir "$ROOT/runs/$PRESET/$RUN_NAME")
if [[ "$PRESET" == *tiny ]]; then
    if has_flag --dry-run; then
        WORLD="$ROOT/runs/tiny_world_seed$SEED" RETRIEVER_URL="${RETRIEVER_URL:-${DRY_RETRIEVER_URL:-http://127.0.0.1:8000}}"
    else
        [[ -z "${TINY_PROTOCOL:-}" ]] || has_flag --actor.model_name_or_path || use_tiny_base "$TINY_PROTOCOL" "$START_MODEL"
        { has_flag --data && has_flag --retriever-url; } || use_tiny_world "$SEED" "$SEED"
        has_flag --retriever-url || "${START_SEARCH:-start_retriever}" "$WORLD/corpus.jsonl"
    fi
    has_flag --data || FLAGS+=(--data "$WORLD/$DATA_NAME")
    has_flag --retriever-url || FLAGS+=(--retriever-url "$RETRIEVER_URL")
elif has_flag --dry-run; then
    has_flag --data || FLAGS+=(--data "$DATA_NAME")
    has_flag --retriever-url || FLAGS+=(--retriever-url "${DRY_RETRIEVER_URL:-http://127.0.0.1:8000}")
fi
forward "$PYTHON" -m r1_searcher.train --recipe "$RECIPE" --actor.model_name_or_path "$START_MODEL" \
    "${COMMON_FLAGS[@]}" ${FLAGS[@]+"${FLAGS[@]}"} ${ARGS[@]+"${ARGS[@]}"}
