#!/usr/bin/env bash
# ReSearch: F1 of a boxed answer, 0.1 for a good format, 0 for a bad one; GRPO.
#
#   bash train_scripts/research.sh                       without a GPU the preset research_tiny, with GPUs research
#   bash train_scripts/research.sh --preset research --data train.jsonl --search SOURCE
#   bash train_scripts/research.sh --dry-run             print OpenRLHF's command and stop
#
# The flags of a preset stand in presets/NAME.toml with their source. Options: --preset NAME, --seed N, --run-dir DIR,
# --data FILE, --search SOURCE, those of python -m r1_searcher.train --help, and any OpenRLHF flag.
exec bash "$(dirname "${BASH_SOURCE[0]}")/train.sh" --system research "$@"
