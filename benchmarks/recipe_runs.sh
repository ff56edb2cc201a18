#!/usr/bin/env bash
# Trains recipes in the tiny world and evaluates each before and after, for benchmarks.recipes_report.
#
#   bash benchmarks/recipe_runs.sh "search_r1 research zerosearch deep_researcher r1_searcher_auto" "0 1"
#
# Results: runs/recipes/SYSTEM_seedN/{base,run,final}. What is finished is not done again.
set -euo pipefail
SYSTEMS="${1:?systems, in quotes: names of scripts in train_scripts}"
SEEDS="${2:?seeds, in quotes}"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
OUT="${OUT:-$ROOT/runs/recipes}"

run_one() {
    local system="$1" out="$OUT/$1_seed$2" preset="$1_tiny" recipe="tiny.$1"
    [[ "$system" != r1_searcher_auto ]] || preset=tiny recipe=tiny.stage2
    PRESETS="$preset" source "$ROOT/train_scripts/preset.sh" --preset "$preset" --seed "$2"
    source "$ROOT/train_scripts/services.sh"
    use_tiny_world "$2" "$2"
    [[ -z "${TINY_PROTOCOL:-}" ]] || use_tiny_base "$TINY_PROTOCOL" "$MODEL"
    start_retriever "$WORLD/corpus.jsonl"
    evaluate() {
        forward "$PYTHON" -m eval.run --recipe "$recipe" --model "$2" --data "$WORLD/heldout.jsonl" \
            --retriever-url "$RETRIEVER_URL" --out "$out/$1" --also-sampled
    }
    mkdir -p "$out"
    evaluate base "$MODEL"
    # The recipe finds its own search engine where it has one (ZeroSearch); the evaluation takes the real one.
    local flags=(--seed "$2" --run-dir "$out/run" --data "$WORLD/stage2.jsonl")
    [[ "$system" == zerosearch ]] || flags+=(--retriever-url "$RETRIEVER_URL")
    forward bash "$ROOT/train_scripts/$system.sh" --preset "$preset" "${flags[@]}"
    evaluate final "$out/run/model"
}

for seed in $SEEDS; do
    for system in $SYSTEMS; do
        printf '\n===== %s, seed %s =====\n' "$system" "$seed" >&2
        (run_one "$system" "$seed")
    done
done
