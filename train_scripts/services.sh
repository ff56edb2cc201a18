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

# start_simulator MODEL [FLAGS of vLLM's server]: a language model that plays the search engine; sets SIMULATOR_URL.
start_simulator() {
    local ready="$SERVICE_DIR/simulator.url" log="$SERVICE_DIR/simulator.log"
    local parent="$BASHPID"
    "$PYTHON" -m r1_searcher.serve --model "$1" --port 0 --ready-file "$ready" --exit-with-parent "$parent" \
        "${@:2}" >"$log" 2>&1 &
    SERVICE_PIDS+=("$!")
    SIMULATOR_URL="$(wait_for_service "$!" "$ready" "$log")/v1"
    echo "simulator: $SIMULATOR_URL" >&2
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

# use_tiny_simulator DIR: builds the tiny simulated search engine where it is missing: a base model and real searches of
# scripted episodes, the data that come of them, and a supervised fine-tuning with OpenRLHF.
use_tiny_simulator() {
    "$PYTHON" -m data_prep.tiny_simulator --out "$1/base" >&2
    [[ -f "$1/data/sft.jsonl" ]] ||
        "$PYTHON" -m data_prep.simulator_data "$1/base/searches" --judge rule --mode short --out "$1/data" >&2
    "$PYTHON" -m r1_searcher.sft --model "$1/base" --data "$1/data/sft.jsonl" --out "$1/model" \
        "${SIMULATOR_SFT_FLAGS[@]}" >&2
}

# start_tiny_simulator: builds and serves it; sets RETRIEVER_URL.
start_tiny_simulator() {
    use_tiny_simulator "$ROOT/runs/tiny_simulator"
    start_simulator "$ROOT/runs/tiny_simulator/model"
    RETRIEVER_URL="simulate:$SIMULATOR_URL?mode=short&noise=$NOISE&seed=$SEED"
}
