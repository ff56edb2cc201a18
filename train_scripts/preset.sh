# Sourced by the training scripts: which preset, and the arguments that remain for the trainer.
# Usage: source preset.sh "$@"   ->   PRESET, SEED, ARGS, ROOT, PYTHON, and the preset's own variables
# (presets/NAME.sh: MODEL, RECIPES, COMMON_FLAGS, and where it has two stages STAGE1_FLAGS, STAGE2_FLAGS).
# Before it, a script may set PRESETS (all it offers), GPU_PRESET and TINY_PRESET (what it takes with and without GPUs).

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PRESETS="${PRESETS:-tiny qwen7b llama8b}"
PRESET="${PRESET:-}"
SEED="${SEED:-0}"
ARGS=()
while (($#)); do
    case "$1" in
        --preset) PRESET="${2:?--preset needs a name: $PRESETS}"; shift 2 ;;
        --preset=*) PRESET="${1#*=}"; shift ;;
        --seed) SEED="${2:?--seed needs a number}"; shift 2 ;;
        --seed=*) SEED="${1#*=}"; shift ;;
        *) ARGS+=("$1"); shift ;;
    esac
done

# Whether the user gave this flag (--flag VALUE, --flag=VALUE or --flag alone).
has_flag() {
    local word
    for word in ${ARGS[@]+"${ARGS[@]}"}; do
        [[ "$word" == "$1" || "$word" == "$1="* ]] && return 0
    done
    return 1
}

PYTHON="$(bash "$ROOT/train_scripts/setup.sh" --print-python)"
if [[ -z "$PRESET" ]]; then
    if nvidia-smi -L >/dev/null 2>&1; then
        PRESET="${GPU_PRESET:-qwen7b}"
    else
        PRESET="${TINY_PRESET:-tiny}"
        echo "no GPU found: taking the preset $PRESET (a 0.6 M parameter model in a small invented world)" >&2
    fi
fi
[[ "$SEED" =~ ^[0-9]+$ ]] || { echo "--seed must be a whole number, found '$SEED'" >&2; exit 2; }
[[ " $PRESETS " == *" $PRESET "* ]] || { echo "unknown preset '$PRESET'; known: $PRESETS" >&2; exit 2; }
source "$ROOT/train_scripts/presets/$PRESET.sh"
