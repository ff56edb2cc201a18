#!/usr/bin/env bash
# Three seeds of the quickstart; then a section of docs/results/quickstart.md and its picture.
#
#   bash benchmarks/quickstart_seeds.sh [OUT [ARMS]]
#
# Default: runs/quickstart_seeds and "mask", three runs of about six minutes each on two cores; "mask nomask" trains each
# seed without the document mask as well. A finished run is not repeated. No setting was chosen on these seeds.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
OUT="${1:-$ROOT/runs/quickstart_seeds}"
declare -A ARMS=(
    [mask]=""
    [nomask]="--no-document-mask"
)
for arm in ${2:-mask}; do
    for seed in 3 4 5; do
        # shellcheck disable=SC2086
        bash "$ROOT/train_scripts/quickstart.sh" --seed "$seed" --out "$OUT/$arm$seed" ${ARMS[$arm]}
    done
done
"$ROOT/.venv/bin/python" -m benchmarks.seeds_report "$OUT" --markdown "$ROOT/docs/results/quickstart.md" \
    --picture "$ROOT/docs/results/quickstart.png"
