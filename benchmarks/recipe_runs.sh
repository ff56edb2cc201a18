#!/usr/bin/env bash
# Trains recipes in the tiny world and evaluates each before and after, for benchmarks.recipes_report.
#
#   bash benchmarks/recipe_runs.sh [SYSTEMS [SEEDS]]
#
# Default: all five ("r1_searcher_auto search_r1 research zerosearch deep_researcher") with seeds "3 4 5", on which no
# setting was chosen.
#
# Results: runs/recipes/SYSTEM_seedN/{base,run,final}. What is finished is not done again.
set -euo pipefail
SYSTEMS="${1:-r1_searcher_auto search_r1 research zerosearch deep_researcher}"
SEEDS="${2:-3 4 5}"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
OUT="${OUT:-$ROOT/runs/recipes}"

# Runs in the tiny world (r1_searcher.launch.playground), which gives it WORLD, MODEL, SEED, PYTHON, and two searches:
# TRAINING_RETRIEVER_URL for training, without what is held out, and RETRIEVER_URL for evaluation.
run_one() {
    local system="$1" preset="$2" recipe="$3" out="$OUT/$1_seed$SEED"
    evaluate() {
        "$PYTHON" -m eval.run --recipe "$recipe" --model "$2" --data "$WORLD/heldout.jsonl" \
            --search "$RETRIEVER_URL" --out "$out/$1" --also-sampled
    }
    mkdir -p "$out"
    evaluate base "$MODEL"
    # The recipe finds its own search engine where it has one (ZeroSearch); the evaluation takes the real one.
    local flags=(--seed "$SEED" --run-dir "$out/run" --data "$WORLD/stage2.jsonl")
    [[ "$system" == zerosearch ]] || flags+=(--search "$TRAINING_RETRIEVER_URL")
    bash "$ROOT/train_scripts/$system.sh" --preset "$preset" "${flags[@]}"
    evaluate final "$out/run/model"
}
export ROOT OUT
export -f run_one
ENVIRONMENT_PYTHON="$(bash "$ROOT/train_scripts/setup.sh" --print-python)"

for seed in $SEEDS; do
    for system in $SYSTEMS; do
        printf '\n===== %s, seed %s =====\n' "$system" "$seed" >&2
        preset="${system}_tiny" recipe="tiny.$system"
        [[ "$system" != r1_searcher_auto ]] || preset=tiny recipe=tiny.stage2
        # shellcheck disable=SC2016
        "$ENVIRONMENT_PYTHON" -m r1_searcher.launch.playground --preset "$preset" --seed "$seed" -- \
            bash -euo pipefail -c 'run_one "$@"' run_one "$system" "$preset" "$recipe"
    done
done
