#!/usr/bin/env bash
# R1-Searcher's two stages in one run: the reward changes once retrieval and format rate have held for three steps.
#
#   bash train_scripts/r1_searcher_auto.sh                       without a GPU the tiny preset, with GPUs qwen7b
#   bash train_scripts/r1_searcher_auto.sh --switch step:12      or fraction:0.2, or held:5,retrieval=0.9,format=0.9
#
# Everything else as in stage1.sh.
exec bash "$(dirname "${BASH_SOURCE[0]}")/train.sh" --system r1_searcher --stage auto "$@"
