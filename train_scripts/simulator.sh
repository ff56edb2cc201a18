#!/usr/bin/env bash
# ZeroSearch's simulated search engine, from runs or evaluations that searched for real to a fine-tuned model:
#
#   bash train_scripts/simulator.sh --out runs/simulator --sources runs/a/run runs/b/final \
#       --judge-url https://HOST/v1 --judge-model NAME
#   .venv/bin/python -m r1_searcher.serve --model runs/simulator/model --host 0.0.0.0 --port 6001
#   bash train_scripts/zerosearch.sh --preset zerosearch --data train.jsonl \
#       --search "simulate:http://HOST:6001/v1?mode=sft&noise=0:0.75"
#
# The settings stand in simulator.toml with their source. Options: --model NAME; the others are those of
# python -m data_prep.simulator_data --help, and any flag with a dot goes to OpenRLHF's train_sft.
set -euo pipefail
PYTHON="$(bash "$(dirname "${BASH_SOURCE[0]}")/setup.sh" --print-python)"
exec "$PYTHON" -m data_prep.simulator_model "$@"
