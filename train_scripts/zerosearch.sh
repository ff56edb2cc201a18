#!/usr/bin/env bash
# ZeroSearch: a language model plays the search engine, worse and worse by a curriculum; F1; REINFORCE.
#
#   bash train_scripts/zerosearch.sh                       without a GPU the preset zerosearch_tiny, with GPUs zerosearch
#   bash train_scripts/zerosearch.sh --preset zerosearch --data train.jsonl --search SOURCE
#   bash train_scripts/zerosearch.sh --dry-run             print OpenRLHF's command and stop
#
# The preset zerosearch_tiny builds its simulator (runs/tiny_simulator, once) and serves it while it trains; for the other
# one, simulator.sh makes a simulator, or any instruction-tuned model plays it (mode=prompt).
#
# The flags of a preset stand in presets/NAME.toml with their source. Options: --preset NAME, --seed N, --run-dir DIR,
# --data FILE, --search SOURCE, those of python -m r1_searcher.train --help, and any OpenRLHF flag.
exec bash "$(dirname "${BASH_SOURCE[0]}")/train.sh" --system zerosearch "$@"
