#!/usr/bin/env bash
# Sets up the environment and runs every check and test.  --fast leaves out the end-to-end tests.
# Other arguments go to pytest: bash tests/run.sh --fast -k protocols
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

FAST=0
if [[ "${1:-}" == --fast ]]; then
  FAST=1
  shift
fi

FAILED=()

# part TITLE COMMAND...: runs it under its title; a failure is noted and the next part still runs
part() {
  local title="$1" from=$SECONDS
  shift
  printf '\n================ %s\n' "$title"
  if "$@"; then
    printf -- '---------------- %s: passed in %d s\n' "$title" $((SECONDS - from)) >&2
  else
    FAILED+=("$title")
    printf -- '---------------- %s: FAILED after %d s\n' "$title" $((SECONDS - from)) >&2
  fi
}

printf '================ set-up\n'
PY="$(bash train_scripts/setup.sh --dev --print-python)"
export PYTHONUNBUFFERED=1
unset PYTHONDONTWRITEBYTECODE # every worker and every process of a test would compile the project again

# The report and the service's page are opened in a browser; without one these tests are skipped and say how to get it.
if [[ "$FAST" == 0 ]] && ! command -v chromium >/dev/null && [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
  printf '\n================ chromium, for the tests in a browser\n'
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends chromium; } \
    >/dev/null 2>&1 || printf 'chromium could not be installed; the tests in a browser will be skipped\n'
fi

part "ruff check" "$PY" -m ruff check .
part "ruff format" "$PY" -m ruff format --check .
part "mypy" "$PY" -m mypy
part "advisories" "$PY" train_scripts/audit.py --warn
# One more than there are cores, as far as memory allows: tests wait for processes and for time-outs.
part "unit tests" "$PY" -m pytest --ignore tests/e2e -n "$(($(nproc) < 4 ? $(nproc) + 1 : 4))" --dist worksteal \
  "$@" </dev/null
if [[ "$FAST" == 0 ]]; then
  # Two at once: a run that starts is many processes that import, and one that trains leaves a core idle.
  part "end-to-end tests" "$PY" -m pytest -m "e2e and not gpu and not network and not slow and not alone" \
    -n 2 --dist loadfile --no-loadscope-reorder --timeout 1800 "$@" </dev/null
  part "tests that measure time" "$PY" -m pytest -m "e2e and alone" "$@" </dev/null
fi

if ((${#FAILED[@]})); then
  printf '\n%d part(s) FAILED in %d s:' "${#FAILED[@]}" "$SECONDS" >&2
  printf ' %s;' "${FAILED[@]}" >&2
  printf '\n' >&2
  exit 1
fi
printf '\neverything passed in %d s\n' "$SECONDS" >&2
