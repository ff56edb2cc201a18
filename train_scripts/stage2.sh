#!/usr/bin/env bash
# Stage 2: learn to answer. Reward: F1 of the answer, -2 for a wrong format (R1-Searcher, paper).
# Starts from stage 1's model (runs/PRESET/stage1/model, or --actor.model_name_or_path).
#
#   bash train_scripts/stage2.sh
#   bash train_scripts/stage2.sh --preset llama8b --data stage_2.jsonl --retriever-url http://HOST:PORT
#
# Everything else as in stage1.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/preset.sh" "$@"

START_MODEL="$ROOT/runs/$PRESET/stage1/model"
if ! has_flag --dry-run && ! has_flag --actor.model_name_or_path && [[ ! -f "$START_MODEL/config.json" ]]; then
    echo "stage 2 starts from stage 1's model, and there is none in $START_MODEL;" \
        "run stage1.sh first, or give --actor.model_name_or_path" >&2
    exit 2
fi
FLAGS=(${STAGE2_FLAGS[@]+"${STAGE2_FLAGS[@]}"})
RECIPE="${RECIPES[1]}" RUN_NAME=stage2 DATA_NAME=stage2.jsonl
source "$ROOT/train_scripts/train_recipe.sh"
