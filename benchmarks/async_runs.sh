#!/usr/bin/env bash
# Synchronous, asynchronous and partial rollout on the tiny world, at equal episodes; then a section of docs/results/async.md.
#
#   bash benchmarks/async_runs.sh [SEEDS [WAYS]]
#
# Default: "0 1 2" and "sync async partial", nine runs of three to four minutes on two cores.
#
# Stage 2's reward from the base model in one stage. A finished run is not repeated.
set -euo pipefail
SEEDS="${1:-0 1 2}"
CHOSEN="${2:-sync async partial}"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
OUT="${OUT:-$ROOT/runs/async}"
declare -A WAYS=(
    [sync]=""
    [async]="--train.async_enable --train.async_queue_size 1"
    [partial]="--train.async_enable --train.async_queue_size 1 --train.partial_rollout_enable"
)

run_one() {
    local way="$1" out="$OUT/$1_seed$2" started
    source "$ROOT/train_scripts/preset.sh" --preset tiny --seed "$2"
    source "$ROOT/train_scripts/services.sh"
    use_tiny_world "$2" "$2"
    start_retriever "$WORLD/corpus.jsonl"
    mkdir -p "$out"
    if [[ ! -f "$out/seconds" ]]; then
        started="$SECONDS"
        # shellcheck disable=SC2086
        forward bash "$ROOT/train_scripts/stage2.sh" --preset tiny --seed "$2" --run-dir "$out/run" \
            --actor.model_name_or_path "$MODEL" --data "$WORLD/stage2.jsonl" --retriever-url "$RETRIEVER_URL" ${WAYS[$way]}
        echo $((SECONDS - started)) >"$out/seconds"
    fi
    forward "$PYTHON" -m eval.run --recipe tiny.stage2 --model "$out/run/model" --data "$WORLD/heldout.jsonl" \
        --retriever-url "$RETRIEVER_URL" --out "$out/final" --also-sampled
}

for seed in $SEEDS; do
    for way in $CHOSEN; do
        printf '\n===== %s, seed %s =====\n' "$way" "$seed" >&2
        (run_one "$way" "$seed")
    done
done
"$ROOT/.venv/bin/python" -m benchmarks.async_report "$OUT" --markdown "$ROOT/docs/results/async.md"
