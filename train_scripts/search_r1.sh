#!/usr/bin/env bash
# Search-R1: exact match as the only reward, one stage (paper: PPO; GRPO as a second preset).
#
#   bash train_scripts/search_r1.sh                       without a GPU the preset search_r1_tiny, with GPUs search_r1_ppo
#   bash train_scripts/search_r1.sh --preset search_r1_ppo --data train.jsonl --search SOURCE
#   bash train_scripts/search_r1.sh --dry-run             print OpenRLHF's command and stop
#
# The flags of a preset stand in presets/NAME.toml with their source. Options: --preset NAME, --seed N, --run-dir DIR,
# --data FILE, --search SOURCE, those of python -m r1_searcher.train --help, and any OpenRLHF flag.
exec bash "$(dirname "${BASH_SOURCE[0]}")/train.sh" --system search_r1 "$@"
