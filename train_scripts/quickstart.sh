#!/usr/bin/env bash
# The whole path on a fresh machine: set-up, tiny world, retriever, evaluation of the base model, stage 1, evaluation,
# stage 2, evaluation, table and report. Interrupted, the same command continues where it was.
#
#   bash train_scripts/quickstart.sh [--seed N] [--out DIR] [--small] [options of r1_searcher.train for both stages]
#
# --small takes 5 + 6 steps and 24 held-out questions: it shows that everything runs, and learns little.
set -euo pipefail
OUT=""
SMALL=""
REST=()
while (($#)); do
    case "$1" in
        --out) OUT="${2:?--out needs a folder}"; shift 2 ;;
        --small) SMALL=_small; shift ;;
        *) REST+=("$1"); shift ;;
    esac
done
SECONDS=0
export PRESET=tiny
source "$(dirname "${BASH_SOURCE[0]}")/preset.sh" ${REST[@]+"${REST[@]}"}
source "$ROOT/train_scripts/services.sh"
OUT="${OUT:-$ROOT/runs/quickstart$SMALL}"
[[ -z "$SMALL" ]] || WORLD_SIZES=(--stage1 40 --stage2 48 --heldout 24)
mkdir -p "$OUT"
TIMES="$OUT/seconds.tsv"

# phase NAME COMMAND...: runs it and notes its wall time.
phase() {
    local name="$1" started="$SECONDS"
    shift
    printf '\n== %s ==\n' "$name" >&2
    "$@"
    printf '%s\t%s\n' "$name" "$((SECONDS - started))" >>"$TIMES"
}

evaluate() {
    forward "$PYTHON" -m eval.run --recipe tiny.stage2 --model "$2" --data "$WORLD/heldout.jsonl" \
        --retriever-url "$RETRIEVER_URL" --out "$OUT/$1" --also-sampled
}

train() {
    forward bash "$ROOT/train_scripts/stage$1.sh" --preset tiny --seed "$SEED" --run-dir "$OUT/stage$1_run" \
        --data "$WORLD/stage$1.jsonl" --retriever-url "$RETRIEVER_URL" "${@:2}"
}

printf 'setup\t%s\n' "$SECONDS" >>"$TIMES"
phase world use_tiny_world "$SEED$SMALL" "$SEED" ${WORLD_SIZES[@]+"${WORLD_SIZES[@]}"}
start_retriever "$WORLD/corpus.jsonl"
phase evaluate_base evaluate base "$MODEL"
phase stage1 train 1 ${ARGS[@]+"${ARGS[@]}"}
phase evaluate_stage1 evaluate stage1 "$OUT/stage1_run/model"
phase stage2 train 2 --actor.model_name_or_path "$OUT/stage1_run/model" ${ARGS[@]+"${ARGS[@]}"}
phase evaluate_stage2 evaluate stage2 "$OUT/stage2_run/model"
"$PYTHON" -m eval.quickstart_report "$OUT"
"$PYTHON" -m eval.report "$OUT"
