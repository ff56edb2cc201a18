#!/usr/bin/env bash
# Stage 2: learn to answer. Reward: F1 of the answer, -2 for a wrong format (R1-Searcher, paper).
# Starts from stage 1's model (runs/PRESET/stage1/model, or --actor.model_name_or_path).
#
#   bash train_scripts/stage2.sh
#   bash train_scripts/stage2.sh --preset llama8b --data stage_2.jsonl --search http://HOST:PORT
#
# Everything else as in stage1.sh.
exec bash "$(dirname "${BASH_SOURCE[0]}")/train.sh" --system r1_searcher --stage stage2 "$@"
