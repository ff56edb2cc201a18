# Sourced: starts what a script needs beside the trainer, and stops it when the script ends, also on Ctrl-C.
# Needs ROOT and PYTHON (preset.sh).

SERVICE_PIDS=()
SERVICE_DIR="$(mktemp -d)"

stop_services() {
    local pid
    for pid in ${SERVICE_PIDS[@]+"${SERVICE_PIDS[@]}"}; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$SERVICE_DIR"
}
trap stop_services EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# forward COMMAND...: runs it and passes a signal that reaches this script on to it, at once (bash alone would wait for the
# command to end first).
forward() {
    "$@" &
    local child=$! status=0
    trap 'kill -TERM "$child" 2>/dev/null || true' INT TERM
    wait "$child" || status=$?
    while kill -0 "$child" 2>/dev/null; do wait "$child" || status=$?; done
    trap 'exit 130' INT
    trap 'exit 143' TERM
    return "$status"
}

# wait_for_service PID READY_FILE LOG: prints the URL that a service has written, or its log where it has died.
wait_for_service() {
    local pid="$1" ready="$2" log="$3"
    while [[ ! -s "$ready" ]]; do
        kill -0 "$pid" 2>/dev/null || { cat "$log" >&2; return 1; }
        sleep 0.2
    done
    cat "$ready"
}

# start_retriever CORPUS: sets RETRIEVER_URL.
start_retriever() {
    local ready="$SERVICE_DIR/retriever.url" log="$SERVICE_DIR/retriever.log"
    local parent="$BASHPID" # not $$: the caller may be a subshell
    "$PYTHON" -m retriever.server --corpus "$1" --backend bm25 --port 0 --ready-file "$ready" \
        --exit-with-parent "$parent" >"$log" 2>&1 &
    SERVICE_PIDS+=("$!")
    RETRIEVER_URL="$(wait_for_service "$!" "$ready" "$log")"
    echo "retriever: $RETRIEVER_URL" >&2
}

# use_tiny_world NAME SEED [SIZES]: makes the world where it is missing; sets WORLD.
use_tiny_world() {
    WORLD="$ROOT/runs/tiny_world_seed$1"
    "$PYTHON" -m data_prep.tiny_world --out "$WORLD" --seed "${@:2}" >&2
}

# use_tiny_base PROTOCOL DIR: builds the tiny base model of a tag family where it is missing (some minutes, once).
use_tiny_base() {
    "$PYTHON" -m data_prep.tiny_base --protocol "$1" --out "$2" >&2
}
