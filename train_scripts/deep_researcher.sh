#!/usr/bin/env bash
# DeepResearcher: searching and reading web pages through JSON tool calls; set F1, -1 for a bad format; GRPO.
#
#   bash train_scripts/deep_researcher.sh                       without a GPU the preset deep_researcher_tiny, with GPUs deep_researcher
#   bash train_scripts/deep_researcher.sh --preset deep_researcher --data train.jsonl --retriever-url URL
#   bash train_scripts/deep_researcher.sh --dry-run             print OpenRLHF's command and stop
#
# The flags of a preset stand in presets/NAME.sh with their source. Options: --preset NAME, --seed N, --run-dir DIR,
# --data FILE, --retriever-url URL, those of python -m r1_searcher.train --help, and any OpenRLHF flag.
set -euo pipefail
PRESETS="deep_researcher_tiny deep_researcher" GPU_PRESET=deep_researcher TINY_PRESET=deep_researcher_tiny
source "$(dirname "${BASH_SOURCE[0]}")/preset.sh" "$@"

START_MODEL="$MODEL"
RECIPE="${RECIPES[0]}" RUN_NAME=run DATA_NAME=stage2.jsonl
source "$ROOT/train_scripts/train_recipe.sh"
