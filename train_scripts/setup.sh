#!/usr/bin/env bash
# Sets up the Python environment: the pinned stack for this machine (with or without NVIDIA GPUs) and this project, editable.
# Every other script calls it; when nothing has changed it returns at once.
#
#   bash train_scripts/setup.sh                         make or bring up to date .venv in the project's folder
#   bash train_scripts/setup.sh --dev                   with the checks and tests (requirements-dev.txt)
#   PY="$(bash train_scripts/setup.sh --print-python)"  the environment's Python; everything else goes to stderr
#
# Environment variables:
#   PYTHON=/path/to/python            the Python to build .venv from, instead of looking for one
#   R1_SEARCHER_DEVICE=cpu|gpu        instead of asking nvidia-smi
#   R1_SEARCHER_USE_ACTIVE_ENV=1      install into the active virtual or conda environment instead of .venv
#   R1_SEARCHER_MIN_DISK_GB, R1_SEARCHER_MIN_MEMORY_GB    what the machine must have (0: do not check)
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
TORCH_CPU_INDEX="https://download.pytorch.org/whl/cpu"
REQUIREMENT_FILES=(requirements.txt requirements-cpu-torch.txt requirements-cpu.txt requirements-dev.txt pyproject.toml)
BACKGROUND_JOB=""

exec 3>&1 1>&2 # stdout is kept for --print-python
set -E
trap 'printf "setup: ERROR: line %s of setup.sh failed: %s  Fix: bash -x %s\n" "$LINENO" "$BASH_COMMAND" "${BASH_SOURCE[0]}"' ERR

say() { printf '[setup %3d s] %s\n' "$SECONDS" "$*"; }

# die WHAT FIX: one line that says what is wrong and the command that fixes it
die() {
  printf 'setup: ERROR: %s  Fix: %s\n' "$1" "$2"
  exit 1
}

step() {
  STEP=$((STEP + 1))
  say "step $STEP of $STEPS: $*"
  printf '\n=== step %d: %s\n' "$STEP" "$*" >>"$LOG"
}

# logged COMMAND...: its output goes to the log only
logged() {
  printf '+ %s\n' "$*" >>"$LOG"
  "$@" >>"$LOG" 2>&1
}

# ---- what is asked for -----------------------------------------------------------------------------------------------------------

read_arguments() {
  DEV=0
  PRINT_PYTHON=0
  for argument in "$@"; do
    case "$argument" in
      --dev) DEV=1 ;;
      --print-python) PRINT_PYTHON=1 ;;
      -h | --help)
        sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
      *) die "unknown argument '$argument' (known: --dev, --print-python)." "bash train_scripts/setup.sh --help" ;;
    esac
  done
}

choose_environment() {
  ENVIRONMENT="$ROOT/.venv"
  if [[ "${R1_SEARCHER_USE_ACTIVE_ENV:-0}" == 1 ]]; then
    ENVIRONMENT="${VIRTUAL_ENV:-${CONDA_PREFIX:-}}"
    [[ -n "$ENVIRONMENT" ]] || die "R1_SEARCHER_USE_ACTIVE_ENV=1, but no environment is active." "unset R1_SEARCHER_USE_ACTIVE_ENV"
  fi
  PY="$ENVIRONMENT/bin/python"
  LOG="$ENVIRONMENT/setup.log"
  STAMP="$ENVIRONMENT/.r1_searcher_setup"
  UNFINISHED="$ENVIRONMENT/.r1_searcher_unfinished"
}

choose_device() {
  DEVICE="${R1_SEARCHER_DEVICE:-}"
  if [[ -z "$DEVICE" ]]; then
    DEVICE=cpu
    if nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then DEVICE=gpu; fi
  fi
  case "$DEVICE" in
    cpu | gpu) ;;
    *) die "R1_SEARCHER_DEVICE is '$DEVICE', expected cpu or gpu." "unset R1_SEARCHER_DEVICE" ;;
  esac
}

# ---- is it done already? ---------------------------------------------------------------------------------------------------------

# The state that a finished set-up leaves in the stamp, one fact per line.
wanted_state() {
  printf 'root %s\ndevice %s\npython %s\nfiles %s\n' "$ROOT" "$DEVICE" "$("$PY" -V 2>&1)" \
    "$(cd "$ROOT" && cat "${REQUIREMENT_FILES[@]}" | sha256sum | cut -d' ' -f1)"
}

is_up_to_date() {
  [[ -x "$PY" && -f "$STAMP" ]] || return 1
  [[ "$(grep -v '^dev ' "$STAMP")" == "$(wanted_state)" ]] || return 1
  [[ "$DEV" == 0 ]] || grep -qx 'dev 1' "$STAMP"
}

finish() {
  [[ "$PRINT_PYTHON" == 0 ]] || printf '%s\n' "$PY" >&3
  exit 0
}

# ---- can this machine do it? -----------------------------------------------------------------------------------------------------

check_machine() {
  local system
  system="$(uname -s) $(uname -m)"
  [[ "$system" == "Linux x86_64" ]] ||
    die "this is $system; the pinned packages exist for Linux x86_64 only." "docker run --platform linux/amd64 -it -v \"$ROOT\":/r1 -w /r1 python:3.11 bash train_scripts/setup.sh"

  command -v "${CXX:-g++}" >/dev/null 2>&1 ||
    die "no C++ compiler (${CXX:-g++}); DeepSpeed is compiled here." "sudo apt-get install -y g++"

  if [[ "$DEVICE" == gpu ]] && ! command -v nvcc >/dev/null 2>&1 && [[ ! -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]]; then
    die "no CUDA compiler (nvcc); flash-attn is compiled here." "export CUDA_HOME=/path/to/cuda-13   (or, to run without the GPU: R1_SEARCHER_DEVICE=cpu bash train_scripts/setup.sh)"
  fi

  local place need free held
  need="${R1_SEARCHER_MIN_DISK_GB:-$([[ "$DEVICE" == gpu ]] && echo 30 || echo 8)}"
  place="$ENVIRONMENT"
  [[ -d "$place" ]] || place="$ROOT"
  free="$(df -Pk "$place" | awk 'NR == 2 {print int($4 / 1048576)}')"
  held=0
  if [[ -d "$ENVIRONMENT" ]]; then held="$(du -sk "$ENVIRONMENT" | awk '{print int($1 / 1048576)}')"; fi
  ((need == 0 || free + held >= need)) ||
    die "$free GB of disk free at $place, $need GB needed." "pip cache purge   (or free space otherwise; R1_SEARCHER_MIN_DISK_GB=$free lets it try)"

  need="${R1_SEARCHER_MIN_MEMORY_GB:-6}"
  free="$(memory_gb)"
  ((need == 0 || free >= need)) ||
    die "$free GB of memory, $need GB needed." "R1_SEARCHER_MIN_MEMORY_GB=$free bash train_scripts/setup.sh   (lets it try; better a larger machine)"
}

# The machine's memory in GiB, rounded up, or the container's limit if that is smaller.
memory_gb() {
  local limit=max
  if [[ -r /sys/fs/cgroup/memory.max ]]; then limit="$(cat /sys/fs/cgroup/memory.max)"; fi
  awk -v limit="$limit" '/^MemTotal:/ {
    kib = $2
    if (limit != "max" && limit / 1024 < kib) kib = limit / 1024
    print int((kib + 1048575) / 1048576)
  }' /proc/meminfo
}

# Prints "3.11 venv headers" for a Python that runs; a word is missing where the thing is.
PROBE='
import importlib.util, os, sys, sysconfig
facts = ["%d.%d" % sys.version_info[:2]]
if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"): facts.append("venv")
if os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")): facts.append("headers")
print(" ".join(facts))'

# Sets BASE_PYTHON to the first Python that fits. One that is found may still not run (a pyenv shim of a version not installed).
find_python() {
  local candidate facts version lacking="" seen=""
  local candidates=(python3.11 python3.12 python3 python
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.11.*/bin/python "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12.*/bin/python)
  if [[ -n "${PYTHON:-}" ]]; then candidates=("$PYTHON"); fi
  for candidate in "${candidates[@]}"; do
    facts="$("$candidate" -c "$PROBE" 2>/dev/null)" || continue
    version="${facts%% *}"
    case "$facts" in
      "3.11 venv headers" | "3.12 venv headers")
        BASE_PYTHON="$candidate"
        return
        ;;
      3.11* | 3.12*) lacking="${lacking:-$facts}" ;;
      *) seen="$seen $candidate is $version;" ;;
    esac
  done
  case "$lacking" in
    *venv) die "Python ${lacking%% *} has no headers (Python.h); DeepSpeed is compiled against them." "sudo apt-get install -y python${lacking%% *}-dev" ;;
    3.*) die "Python ${lacking%% *} has no venv module." "sudo apt-get install -y python${lacking%% *}-venv python${lacking%% *}-dev" ;;
  esac
  die "no Python 3.11 or 3.12 that runs (${PYTHON:+PYTHON=$PYTHON; }found:${seen:- none})." "sudo apt-get install -y python3.11-venv python3.11-dev   (or PYTHON=/path/to/python3.11 bash train_scripts/setup.sh)"
}

# ---- the work --------------------------------------------------------------------------------------------------------------------

# One set-up at a time in an environment; the lock is released when this process ends, however it ends.
take_lock() {
  mkdir -p "$ENVIRONMENT"
  exec 9>"$ENVIRONMENT/.r1_searcher_lock"
  if ! flock -n 9; then
    say "another set-up is at work here; waiting for it"
    flock 9
  fi
}

make_environment() {
  if [[ -x "$PY" ]] && "$PY" -m pip --version >/dev/null 2>&1 && [[ "$("$PY" -c "$PROBE")" == 3.1[12]* ]]; then
    return
  fi
  [[ "${R1_SEARCHER_USE_ACTIVE_ENV:-0}" != 1 ]] ||
    die "the active environment $ENVIRONMENT has no Python 3.11 or 3.12 with pip." "unset R1_SEARCHER_USE_ACTIVE_ENV"
  find_python
  say "making .venv from $BASE_PYTHON ($("$BASE_PYTHON" -V 2>&1))"
  # Not `venv --clear`: that would remove the lock which this process holds.
  rm -rf "${ENVIRONMENT:?}"/{bin,include,lib,lib64,share,pyvenv.cfg}
  logged "$BASE_PYTHON" -m venv "$ENVIRONMENT" || failed "could not make $ENVIRONMENT."
}

# After a killed set-up: pip writes a package's INSTALLER file last, so a package without it is half there while pip believes it whole.
forget_half_installed() {
  local folder
  for folder in "$ENVIRONMENT"/lib/python3.*/site-packages/*.dist-info; do
    if [[ -d "$folder" && ! -e "$folder/INSTALLER" ]]; then
      printf 'half installed, to be installed again: %s\n' "$folder" >>"$LOG"
      rm -rf "$folder"
    fi
  done
}

# The folder was moved or copied: the environment's own scripts (ray, pip) still name the Python of the old place.
follow_move() {
  local old
  old="$(sed -n 's/^root //p' "$STAMP" 2>/dev/null || true)"
  if [[ -z "$old" || "$old" == "$ROOT" || "$ENVIRONMENT" != "$ROOT/.venv" ]]; then return; fi
  say "the project was moved from $old; correcting .venv"
  grep -rIlF "$old/.venv/" "$ENVIRONMENT/bin" | xargs -r sed -i "s|$old/.venv|$ROOT/.venv|g"
}

# With bytecode, which takes a minute: where PYTHONDONTWRITEBYTECODE is set, each worker would compile 30 s worth of imports again.
pip_install() { logged "$PY" -m pip install --disable-pip-version-check --no-input "$@"; }

# failed WHAT: a step that only the log can explain
failed() {
  printf -- '--- the end of %s\n' "$LOG"
  tail -n 12 "$LOG"
  die "$1 The whole log: $LOG" "bash train_scripts/setup.sh   (continues where it stopped, once the cause above is removed)"
}

install_for_cpu() {
  step "torch ${1}, CPU build"
  # First wherever the user's own pip looks; "+cpu" never matches a CUDA build.
  pip_install --no-deps -r requirements-cpu-torch.txt ||
    pip_install --no-deps --extra-index-url "$TORCH_CPU_INDEX" -r requirements-cpu-torch.txt ||
    failed "no CPU build of torch ${1}, neither in pip's own places nor in $TORCH_CPU_INDEX."

  step "the pinned packages, while DeepSpeed is compiled in the background"
  local wheels="$ENVIRONMENT/.r1_searcher_wheels" deepspeed
  deepspeed="$(grep '^deepspeed==' requirements-cpu.txt)"
  if ! has_deepspeed "$deepspeed"; then
    # Compiled with its shared-memory op, which the first training run would otherwise have to compile. Never from pip's cache:
    # a wheel that was built without the op has the same name.
    DS_ACCELERATOR=cpu DS_BUILD_SHM_COMM=1 PATH="$ENVIRONMENT/bin:$PATH" "$PY" -m pip wheel --disable-pip-version-check --no-input \
      --no-cache-dir --no-deps --no-build-isolation -w "$wheels" "$deepspeed" >"$ENVIRONMENT/setup-deepspeed.log" 2>&1 &
    BACKGROUND_JOB=$!
  fi
  pip_install --no-deps -r <(grep -v '^deepspeed==' requirements-cpu.txt) || failed "the packages could not be installed."

  step "DeepSpeed"
  if [[ -n "$BACKGROUND_JOB" ]]; then
    local result=0
    wait "$BACKGROUND_JOB" || result=$?
    BACKGROUND_JOB=""
    cat "$ENVIRONMENT/setup-deepspeed.log" >>"$LOG"
    rm -f "$ENVIRONMENT/setup-deepspeed.log"
    ((result == 0)) || failed "DeepSpeed could not be compiled."
    pip_install --no-deps --no-index --find-links "$wheels" --force-reinstall "$deepspeed" || failed "DeepSpeed could not be installed."
    rm -rf "$wheels"
  fi
}

# True if this DeepSpeed is there with its compiled op.
has_deepspeed() {
  compgen -G "$ENVIRONMENT/lib/python3.*/site-packages/deepspeed-${1#*==}.dist-info/INSTALLER" >/dev/null &&
    compgen -G "$ENVIRONMENT/lib/python3.*/site-packages/deepspeed/ops/comm/deepspeed_shm_comm_op*.so" >/dev/null
}

install_for_gpu() {
  step "torch ${1}, CUDA build, and build tools"
  pip_install -c requirements.txt torch setuptools wheel ninja packaging psutil py-cpuinfo || failed "torch could not be installed."
  step "flash-attn, compiled here unless a wheel fits (some 20 minutes)"
  MAX_JOBS="${MAX_JOBS:-4}" PATH="$ENVIRONMENT/bin:$PATH" pip_install --no-deps --no-build-isolation "$(grep '^flash-attn==' requirements.txt)" ||
    failed "flash-attn could not be compiled."
  step "the pinned packages"
  PATH="$ENVIRONMENT/bin:$PATH" pip_install --no-deps --no-build-isolation -r requirements.txt || failed "the packages could not be installed."
}

check_imports() {
  local result
  result="$(DS_ACCELERATOR="${DS_ACCELERATOR:-$([[ "$DEVICE" == cpu ]] && echo cpu)}" "$PY" - "$DEVICE" 2>>"$LOG" <<'PYTHON'
import os
import sys

if not os.environ["DS_ACCELERATOR"]:
    del os.environ["DS_ACCELERATOR"]
import torch

if sys.argv[1] == "cpu" and torch.version.cuda is not None:
    sys.exit(print(f"a CUDA build of torch ({torch.__version__})"))
import deepspeed, faiss, flask, openrlhf, ray, transformers, vllm  # noqa: E401
import vllm.v1.engine.async_llm  # imports what `import vllm` puts off
import r1_searcher

print("ok")
PYTHON
)" || true
  case "${result##*$'\n'}" in
    ok) ;;
    "a CUDA build"*) die "the environment has $result, which a machine without a GPU cannot use." "\"$PY\" -m pip uninstall -y torch && bash train_scripts/setup.sh" ;;
    *) failed "the installed packages do not import." ;;
  esac
}

# shellcheck disable=SC2329 # called by the trap in main
stop_background_job() { [[ -z "$BACKGROUND_JOB" ]] || kill "$BACKGROUND_JOB" 2>/dev/null || true; }

main() {
  read_arguments "$@"
  cd "$ROOT"
  choose_environment
  choose_device
  ! is_up_to_date || finish

  check_machine
  if [[ ! -x "$PY" ]]; then find_python; fi # before anything is written
  take_lock
  ! is_up_to_date || finish # the one that we waited for has done it

  trap stop_background_job EXIT
  if grep -qx 'dev 1' "$STAMP" 2>/dev/null; then DEV=1; fi # what was there is kept up to date
  STEP=0
  STEPS=$((6 + DEV))
  printf '\n##### set-up of %s for %s\n' "$(date -u +%FT%TZ)" "$DEVICE" >>"$LOG"
  say "setting up for $DEVICE in $ENVIRONMENT (log: $LOG)"

  step "the environment"
  follow_move
  rm -f "$STAMP"
  make_environment
  if [[ -e "$UNFINISHED" ]]; then forget_half_installed; fi
  touch "$UNFINISHED"

  local torch
  torch="$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' requirements.txt)"
  if [[ "$DEVICE" == cpu ]]; then install_for_cpu "$torch"; else install_for_gpu "$torch"; fi
  if [[ "$DEV" == 1 ]]; then
    step "the checks and tests"
    pip_install --no-deps -r requirements-dev.txt || failed "the development packages could not be installed."
  fi
  step "this project, editable"
  pip_install --no-deps --no-build-isolation -e . || failed "the project itself could not be installed."
  step "does everything import?"
  check_imports

  { wanted_state && printf 'dev %s\n' "$DEV"; } >"$STAMP.new"
  mv "$STAMP.new" "$STAMP"
  rm -f "$UNFINISHED"
  say "ready: $PY"
  finish
}

main "$@"
