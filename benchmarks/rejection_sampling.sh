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
OUT="${OUT:-$ROOT/runs/rejection_sampling}/seed$WORLD_SEED"
PRESETS=search_r1_tiny source "$ROOT/train_scripts/preset.sh" --preset search_r1_tiny --seed "$WORLD_SEED"
source "$ROOT/train_scripts/services.sh"

use_tiny_world "$SEED" "$SEED"
use_tiny_base "$TINY_PROTOCOL" "$MODEL"
start_retriever "$WORLD/corpus.jsonl"
for size in $SIZES; do
    out="$OUT/$size" limit=()
    [[ "$size" == all ]] || limit=(--episodes "$size")
    mkdir -p "$out"
    [[ -f "$out/sft.jsonl" ]] || forward "$PYTHON" -m data_prep.good_trajectories "$RUN" --model "$MODEL" \
        --min-reward 1.0 --per-question 2 ${limit[@]+"${limit[@]}"} --out "$out/sft.jsonl"
    forward "$PYTHON" -m r1_searcher.sft --model "$MODEL" --data "$out/sft.jsonl" --out "$out/model" \
        --train.batch_size 32 --train.micro_batch_size 32 --train.max_epochs 3 --data.max_len 384 \
        --adam.lr 7e-4 --lr_warmup_ratio 0.1
    forward "$PYTHON" -m eval.run --recipe "${RECIPES[0]}" --model "$out/model" --data "$WORLD/heldout.jsonl" \
        --retriever-url "$RETRIEVER_URL" --out "$out/final" --also-sampled
done
