#!/usr/bin/env bash
# RL against supervised fine-tuning on its own good trajectories, in the tiny world:
#
#   bash benchmarks/rejection_sampling.sh runs/recipes/search_r1_seed0/run 0 "100 400 all"
#
# From a finished run of Search-R1's recipe and its seed: the base is fine-tuned on that many of the run's rewarded
# episodes, and evaluated as the run was. Results: runs/rejection_sampling/seedN/EPISODES/{model,final}. What is finished
# is not done again.
set -euo pipefail
RUN="${1:?folder of a finished run}" WORLD_SEED="${2:?its seed}" SIZES="${3:?numbers of episodes, in quotes; all}"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export OUT="${OUT:-$ROOT/runs/rejection_sampling}/seed$WORLD_SEED"

# Runs in the tiny world (r1_searcher.launch.playground), which gives it WORLD, MODEL, RETRIEVER_URL and PYTHON.
run_sizes() {
    local run="$1" size out limit
    for size in "${@:2}"; do
        out="$OUT/$size" limit=()
        [[ "$size" == all ]] || limit=(--episodes "$size")
        mkdir -p "$out"
        [[ -f "$out/sft.jsonl" ]] || "$PYTHON" -m data_prep.good_trajectories "$run" --model "$MODEL" \
            --min-reward 1.0 --per-question 2 ${limit[@]+"${limit[@]}"} --out "$out/sft.jsonl"
        "$PYTHON" -m r1_searcher.sft --model "$MODEL" --data "$out/sft.jsonl" --out "$out/model" \
            --train.batch_size 12 --train.micro_batch_size 12 --train.max_epochs 3 \
            --adam.lr 7e-4 --lr_warmup_ratio 0.1
        "$PYTHON" -m eval.run --recipe tiny.search_r1 --model "$out/model" --data "$WORLD/heldout.jsonl" \
            --search "$RETRIEVER_URL" --out "$out/final" --also-sampled
    done
}
export -f run_sizes
# shellcheck disable=SC2016,SC2086 # several sizes
"$(bash "$ROOT/train_scripts/setup.sh" --print-python)" -m r1_searcher.launch.playground --preset search_r1_tiny \
    --seed "$WORLD_SEED" -- bash -euo pipefail -c 'run_sizes "$@"' run_sizes "$RUN" $SIZES
