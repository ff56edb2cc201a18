#!/usr/bin/env bash
# Joins several machines into one Ray cluster; then start training on any of them with RAY_ADDRESS=auto.
#
#   bash train_scripts/ray_start.sh head                     on the first machine; prints its address
#   bash train_scripts/ray_start.sh worker ADDRESS:PORT      on each of the others
#   RAY_ADDRESS=auto bash train_scripts/stage1.sh --actor.num_nodes 2 ...
#   bash train_scripts/ray_start.sh stop                     on every machine, at the end; stops every Ray there
#
# Further arguments go to `ray start` (e.g. --num-gpus, --node-ip-address). The project must be set up at the same
# path on every machine, and the run folder must be on a file system that all of them share.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
RAY="$(dirname "$(bash "$ROOT/train_scripts/setup.sh" --print-python)")/ray"
PORT="${RAY_PORT:-6379}"

case "${1:-}" in
    head) exec "$RAY" start --head --port "$PORT" "${@:2}" ;;
    worker) exec "$RAY" start --address "${2:?worker needs the address that head printed, HOST:PORT}" "${@:3}" ;;
    stop) exec "$RAY" stop "${@:2}" ;;
    *) echo "usage: ray_start.sh head | worker ADDRESS:PORT | stop   [arguments of ray start]" >&2; exit 2 ;;
esac
