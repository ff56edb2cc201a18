#!/usr/bin/env bash
# DeepResearcher: searching and reading web pages through JSON tool calls; set F1, -1 for a bad format; GRPO.
#
#   bash train_scripts/deep_researcher.sh                       without a GPU the preset deep_researcher_tiny, with GPUs deep_researcher
#   bash train_scripts/deep_researcher.sh --preset deep_researcher --data train.jsonl --search SOURCE
#   bash train_scripts/deep_researcher.sh --dry-run             print OpenRLHF's command and stop
#
# The flags of a preset stand in presets/NAME.toml with their source. Options: --preset NAME, --seed N, --run-dir DIR,
# --data FILE, --search SOURCE, those of python -m r1_searcher.train --help, and any OpenRLHF flag.
exec bash "$(dirname "${BASH_SOURCE[0]}")/train.sh" --system deep_researcher "$@"
