"""Serving a model: bad addresses, readiness, and that nothing is left; `inference/test_served` serves a real one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from r1_searcher import serve
from r1_searcher.host import bf16_products
from r1_searcher.host.device import Device

STUB = """
import http.server, sys
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
"""


def test_a_port_in_use_is_one_line(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert serve.main(["--model", "m", "--port", str(taken.getsockname()[1])]) == 2
    err = capsys.readouterr().err
    assert "cannot listen on" in err and err.count("\n") == 1


@pytest.mark.e2e
def test_the_ready_file_holds_the_url_as_long_as_the_server_answers(tmp_path):
    """A signal ends server and launcher, with status 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ready = tmp_path / "url"
    program = (
        "import sys; from pathlib import Path; from r1_searcher import serve; "
        f"sys.exit(serve.run_server([sys.executable, '-c', {STUB!r}, '{port}'], serve.Device.CPU, "
        f"'http://127.0.0.1:{port}', Path({str(ready)!r})))"
    )
    environment = os.environ | {bf16_products.VARIABLE: "bf16"}  # nothing is measured, and torch not imported
    launcher = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not ready.exists():
        assert launcher.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    assert ready.read_text() == f"http://127.0.0.1:{port}\n"
    launcher.terminate()
    assert launcher.wait(30) == 0 and not ready.exists()
    with socket.socket() as connection:
        assert connection.connect_ex(("127.0.0.1", port)) != 0, "the server is gone"


def test_a_server_that_dies_gives_its_status_and_is_never_ready(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit(7)"]
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert serve.run_server(command, Device.CPU, "http://127.0.0.1:9", tmp_path / "url") == 7
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert not (tmp_path / "url").exists()
