#!/usr/bin/env bash
# Sets up where needed and trains: python -m r1_searcher.train with these arguments. The other scripts name their system.
#
#   bash train_scripts/train.sh --list-presets
#   bash train_scripts/train.sh --preset my_preset.toml --data FILE --search SOURCE
#
# PRESET and SEED in the environment stand for --preset and --seed.
set -euo pipefail
PYTHON="$(bash "$(dirname "${BASH_SOURCE[0]}")/setup.sh" --print-python)"
exec "$PYTHON" -m r1_searcher.train ${PRESET:+--preset "$PRESET"} ${SEED:+--seed "$SEED"} "$@"
