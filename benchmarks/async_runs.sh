#!/usr/bin/env bash
# Synchronous, asynchronous and partial rollout on the tiny world, at equal episodes; then a section of docs/results/async.md.
#
#   bash benchmarks/async_runs.sh [SEEDS [WAYS]]
#
# Default: "3 4 5" and "sync async partial", nine runs of three to four minutes on two cores.
#
# Stage 2's reward from the base model in one stage. A finished run is not repeated.
set -euo pipefail
SEEDS="${1:-3 4 5}"
CHOSEN="${2:-sync async partial}"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
OUT="${OUT:-$ROOT/runs/async}"
declare -A WAYS=(
    [sync]=""
    [async]="--train.async_enable --train.async_queue_size 1"
    [partial]="--train.async_enable --train.async_queue_size 1 --train.partial_rollout_enable"
)

# Runs in the tiny world (r1_searcher.launch.playground), which gives it WORLD, MODEL, SEED, PYTHON, and two searches:
# TRAINING_RETRIEVER_URL for training, without what is held out, and RETRIEVER_URL for evaluation.
run_one() {
    local out="$OUT/$1_seed$SEED" started
    mkdir -p "$out"
    if [[ ! -f "$out/seconds" ]]; then
        started="$SECONDS"
        "$PYTHON" -m r1_searcher.train --preset tiny --stage stage2 --seed "$SEED" --run-dir "$out/run" \
            --actor.model_name_or_path "$MODEL" --data "$WORLD/stage2.jsonl" \
            --search "$TRAINING_RETRIEVER_URL" "${@:2}"
        echo $((SECONDS - started)) >"$out/seconds"
    fi
    "$PYTHON" -m eval.run --recipe tiny.stage2 --model "$out/run/model" --data "$WORLD/heldout.jsonl" \
        --search "$RETRIEVER_URL" --out "$out/final" --also-sampled
}
export OUT
export -f run_one
ENVIRONMENT_PYTHON="$(bash "$ROOT/train_scripts/setup.sh" --print-python)"

for seed in $SEEDS; do
    for way in $CHOSEN; do
        printf '\n===== %s, seed %s =====\n' "$way" "$seed" >&2
        # shellcheck disable=SC2086,SC2016
        "$ENVIRONMENT_PYTHON" -m r1_searcher.launch.playground --seed "$seed" -- \
            bash -euo pipefail -c 'run_one "$@"' run_one "$way" ${WAYS[$way]}
    done
done
"$ENVIRONMENT_PYTHON" -m benchmarks.async_report "$OUT" --markdown "$ROOT/docs/results/async.md"
