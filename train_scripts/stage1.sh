#!/usr/bin/env bash
# Stage 1: learn to search. Reward: 0.5 for at least one retrieval + 0.5 for the right format (R1-Searcher, paper).
#
#   bash train_scripts/stage1.sh                                  without a GPU the tiny preset, with GPUs qwen7b
#   bash train_scripts/stage1.sh --preset llama8b --data stage_1.jsonl --search http://HOST:PORT
#   bash train_scripts/stage1.sh --dry-run                        print OpenRLHF's command and stop
#   bash train_scripts/stage1.sh --actor.adam.lr 1e-6             any OpenRLHF flag; yours win
#
# The flags of a preset stand in presets/NAME.toml. Options: --preset NAME, --seed N, --run-dir DIR, --data FILE,
# --search SOURCE, and those of: python -m r1_searcher.train --help
exec bash "$(dirname "${BASH_SOURCE[0]}")/train.sh" --system r1_searcher --stage stage1 "$@"
