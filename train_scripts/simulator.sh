#!/usr/bin/env bash
# ZeroSearch's simulated search engine, from runs or evaluations that searched for real to a fine-tuned model:
#
#   bash train_scripts/simulator.sh --out runs/simulator --sources "runs/a/run runs/b/final" \
#       --judge-url https://HOST/v1 --judge-model NAME
#   python -m r1_searcher.serve --model runs/simulator/model --host 0.0.0.0 --port 6001
#   bash train_scripts/zerosearch.sh --preset zerosearch --data train.jsonl \
#       --search "simulate:http://HOST:6001/v1?mode=sft&noise=0:0.75"
#
# The paper's settings (section 3.3 and appendix F): Qwen2.5-3B, 7B or 14B-Instruct, learning rate 1e-6, about 20,000
# examples. Batch and length are ours: it names none. Options: --model NAME; the others are those of
# python -m data_prep.simulator_data --help, and any flag with a dot goes to OpenRLHF's train_sft.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
MODEL=Qwen/Qwen2.5-7B-Instruct OUT="" SOURCES="" DATA_FLAGS=() SFT_FLAGS=()
while (($#)); do
    case "$1" in
        --out) OUT="${2:?--out needs a folder}"; shift 2 ;;
        --sources) SOURCES="${2:?--sources needs folders, in quotes}"; shift 2 ;;
        --model) MODEL="${2:?--model needs a name}"; shift 2 ;;
        --*.*) SFT_FLAGS+=("$1"); shift
            while (($#)) && [[ "$1" != --* ]]; do SFT_FLAGS+=("$1"); shift; done ;;
        *) DATA_FLAGS+=("$1"); shift ;;
    esac
done
[[ -n "$OUT" && -n "$SOURCES" ]] || { echo "simulator.sh needs --out FOLDER and --sources \"FOLDER …\"" >&2; exit 2; }
PYTHON="$(bash "$ROOT/train_scripts/setup.sh" --print-python)"

if [[ ! -f "$OUT/data/sft.jsonl" ]]; then
    # shellcheck disable=SC2086 # several folders
    "$PYTHON" -m data_prep.simulator_data $SOURCES --out "$OUT/data" ${DATA_FLAGS[@]+"${DATA_FLAGS[@]}"}
fi
"$PYTHON" -m r1_searcher.sft --model "$MODEL" --data "$OUT/data/sft.jsonl" --out "$OUT/model" \
    --adam.lr 1e-6 --train.max_epochs 2 --train.batch_size 128 --train.micro_batch_size 4 --data.max_len 2048 \
    --ds.zero_stage 3 --model.gradient_checkpointing_enable ${SFT_FLAGS[@]+"${SFT_FLAGS[@]}"}
