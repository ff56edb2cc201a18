"""A model behind vLLM's OpenAI-compatible server, with GPUs or without: `python -m r1_searcher.serve --model M`.

With --agent the model searches by itself: `python -m r1_searcher.serve --agent --model M --search SOURCE` (and
`--agent --help`). Without it the server is vLLM's own. What is added is the environment that it needs where there is no
GPU, a free port, a file that says when it answers, and an end with its parent. Options that are not ours go to it.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from foundation.cli import NAMED, OneLineParser, expected, log_to_stderr, run_command
from foundation.errors import Unavailable
from foundation.http import probe
from foundation.process import bind, url_of
from foundation.web_server import add_address_options, add_lifetime_options, announced, begin_lifetime
from r1_searcher.host.device import Device, detect, worker_environment
from r1_searcher.launch.processes import ProcessSession

logger = logging.getLogger(__name__)

SERVER_MODULE = "vllm.entrypoints.openai.api_server"
# vLLM's graph capture and compilation take longer on few cores than a small model ever computes.
CPU_FLAGS = ("--enforce-eager", "--dtype", "bfloat16")
POLL_SECONDS = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal; the status is vLLM's own, 0 after a signal."""
    if "--agent" in (sys.argv[1:] if argv is None else argv):
        from r1_searcher.agent_service import command

        return command.main(argv)
    log_to_stderr(NAMED)
    options, server_flags = _parser().parse_known_args(argv)
    return run_command("r1_searcher.serve", lambda: _run(options, server_flags))


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="r1_searcher.serve", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--agent", action="store_true", help="serve an agent that searches by itself; see --agent --help")
    add("--model", required=True, help="folder or hub name; it needs a chat template")
    add_address_options(add, token=None)
    add_lifetime_options(add)
    return parser


def _run(options: argparse.Namespace, server_flags: Sequence[str]) -> int:
    with expected(OSError, ValueError):
        begin_lifetime(options)
        with bind(options.host, options.port) as listener:  # free again by the time that vLLM takes it
            number, url = listener.getsockname()[1], url_of(options.host, listener)
    device, _ = detect()
    flags = ["--model", options.model, "--host", options.host, "--port", str(number)]
    flags += [*(CPU_FLAGS if device is Device.CPU else ()), *server_flags]
    return run_server([sys.executable, "-m", SERVER_MODULE, *flags], device, url, options.ready_file)


def run_server(command: Sequence[str], device: Device, url: str, ready_file: Path | None) -> int:
    """Run a server in a session of its own until it ends or a signal comes; its URL is announced once it answers."""
    process = subprocess.Popen(command, env=os.environ | worker_environment(device), start_new_session=True)
    session = ProcessSession.led_by(process.pid)
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        process.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        while process.poll() is None and not _answers(url):
            time.sleep(POLL_SECONDS)
        with announced(ready_file if process.poll() is None else None, url):
            status = process.wait()
    finally:
        session.end()
        process.wait()
    return 0 if stopped else status


def _answers(url: str) -> bool:
    try:
        return probe(f"{url}/health", 5.0) == 200
    except Unavailable:
        return False


if __name__ == "__main__":
    sys.exit(main())
