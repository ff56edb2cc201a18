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

for argument in "$@"; do
  case "$argument" in
    -h | --help)
      sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
      exit 0
      ;;
  esac
done

# The work is Python's (set_up.py), and any Python from 3.9 on can do it. One that is found may still not run (a pyenv
# shim of a version not installed).
seen=""
for candidate in "$ROOT/.venv/bin/python" ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3 python \
  "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[12].*/bin/python; do
  version="$("$candidate" -Sc 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 9))' 2>/dev/null)" &&
    exec "$candidate" "$ROOT/train_scripts/set_up.py" "$@"
  seen="$seen${version:+ $candidate is $version;}"
done
printf 'setup: ERROR: no Python 3.11 or 3.12 that runs (found:%s).  Fix: %s\n' "${seen:- none}" \
  "sudo apt-get install -y python3.11-venv python3.11-dev   (or PYTHON=/path/to/python3.11 bash train_scripts/setup.sh)" >&2
exit 2
