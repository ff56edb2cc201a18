#!/usr/bin/env bash
# Three seeds of the quickstart, and the same three without the document mask; then docs/results/quickstart.md and its picture.
# Six runs of about six minutes each on two cores. A finished run is not repeated. No setting was chosen on these seeds.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
OUT="${1:-$ROOT/runs/quickstart_seeds}"
for seed in 3 4 5; do
    bash "$ROOT/train_scripts/quickstart.sh" --seed "$seed" --out "$OUT/mask$seed"
done
for seed in 3 4 5; do
    # The importance correction would drop the document tokens again: the engine reports no log-probs for them.
    bash "$ROOT/train_scripts/quickstart.sh" --seed "$seed" --out "$OUT/nomask$seed" --no-document-mask \
        --algo.advantage.is_correction_level off
done
"$ROOT/.venv/bin/python" -m benchmarks.seeds_report "$OUT" --markdown "$ROOT/docs/results/quickstart.md" --picture "$ROOT/docs/results/mask.png"
