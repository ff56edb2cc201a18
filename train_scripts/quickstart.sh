#!/usr/bin/env bash
# The whole path on a fresh machine: set-up, tiny world, retriever, evaluation of the base model, stage 1, evaluation,
# stage 2, evaluation, table and report. Interrupted, the same command continues where it was.
#
#   bash train_scripts/quickstart.sh [--seed N] [--out DIR] [--small] [options of r1_searcher.train for both stages]
#
# --small takes 5 + 6 steps and 24 held-out questions: it shows that everything runs, and learns little.
set -euo pipefail
PYTHON="$(bash "$(dirname "${BASH_SOURCE[0]}")/setup.sh" --print-python)"
exec "$PYTHON" -m eval.quickstart --setup-seconds "$SECONDS" ${SEED:+--seed "$SEED"} "$@"
