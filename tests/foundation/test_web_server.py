"""The host of all our services, over real sockets: connections, bodies, tokens."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import socket
import threading
from collections.abc import Iterator

import pytest
from flask import Flask, request
from support.services.search_servers import Stop

from foundation import process, web_server
from foundation.process import bind, url_of
from foundation.web_server import Access, Capacity, HttpServer, token_of, warn_if_open

TOKEN = "a-token"


@contextlib.contextmanager
def served(**options: object) -> Iterator[int]:
    """An app that tells the size of a body, one path of it slowly; served in a thread. Gives its port."""
    answers: threading.Event = options.pop("answers", threading.Event())
    app = Flask("echo", static_folder=None)
    access = Access(TOKEN if options.pop("guarded", False) else None)
    access.guard(app)

    @app.post("/echo")
    @app.get("/health")
    def echo() -> dict[str, int]:
        return {"bytes": len(request.get_data())}

    @app.post("/slow")
    def slow() -> dict[str, int]:
        return {"bytes": int(not answers.wait(5))}

    listener, stop = bind("127.0.0.1", 0), Stop()
    server = HttpServer(app, listener, threads=4, access=access, **options)
    thread = threading.Thread(target=server.serve, args=(stop, None, ""), daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    stop.now()
    thread.join(timeout=10)
    assert not thread.is_alive()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def asked(connection: socket.socket, head: str, body: bytes = b"") -> tuple[int, dict]:
    """Status and JSON of one answer."""
    connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
    said = connection.recv(65536)
    while b"\r\n\r\n" not in said or not said.rstrip().endswith(b"}"):
        more = connection.recv(65536)
        if not more:
            break
        said += more
    return int(said.split()[1]), json.loads(said.partition(b"\r\n\r\n")[2] or b"{}")


HEALTH = "GET /health HTTP/1.1\nHost: x"


@pytest.mark.parametrize("half_open", [False, True])
def test_resting_connections_make_room(monkeypatch, half_open):
    """Idle keep-alive connections, or half requests, of some callers do not keep the others out."""
    monkeypatch.setattr(web_server, "REST_S", 0.2)
    with served(capacity=Capacity(4)) as port, contextlib.ExitStack() as open_sockets:
        for _ in range(8):
            connection = open_sockets.enter_context(connected(port))
            if half_open:
                connection.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Len")
            else:
                assert asked(connection, HEALTH)[0] == 200
        assert asked(open_sockets.enter_context(connected(port)), HEALTH)[0] == 200


def test_a_connection_with_a_request_under_way_is_kept(monkeypatch):
    monkeypatch.setattr(web_server, "REST_S", 0.2)
    answers = threading.Event()
    with served(capacity=Capacity(2), answers=answers) as port, contextlib.ExitStack() as open_sockets:
        first = open_sockets.enter_context(connected(port))
        first.sendall(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        for _ in range(4):
            assert asked(open_sockets.enter_context(connected(port)), HEALTH) == (200, {"bytes": 0})
        answers.set()
        assert b"200 OK" in first.recv(65536)


def test_a_large_body_without_the_token_is_not_read():
    with served(guarded=True) as port:
        for size in ("Content-Length: 10000000", "Transfer-Encoding: chunked"):
            with connected(port) as connection:
                status, said = asked(connection, f"POST /echo HTTP/1.1\nHost: x\n{size}")
                assert status == 401 and "token" in said["error"]
                assert connection.recv(1) == b""  # and the connection is closed


def test_a_small_body_without_the_token_gets_the_apps_answer():
    with served(guarded=True) as port, connected(port) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        said = connection.recv(65536)
        assert b" 401 " in said and b'{"error"' not in said


def test_with_the_token_a_large_body_is_read():
    body = b"x" * 200_000
    head = f"POST /echo HTTP/1.1\nHost: x\nAuthorization: Bearer {TOKEN}\nContent-Length: {len(body)}"
    with served(guarded=True) as port, connected(port) as connection:
        assert asked(connection, head, body) == (200, {"bytes": len(body)})


def test_a_body_over_the_limit_is_refused_before_it_is_read():
    with served(max_body_bytes=1000) as port:
        with connected(port) as connection:
            status, said = asked(connection, "POST /echo HTTP/1.1\nHost: x\nContent-Length: 1001")
            assert (status, said["error"]) == (413, "Request Entity Too Large, the body may have at most 1000 bytes")
        with connected(port) as connection:
            head = "POST /echo HTTP/1.1\nHost: x\nContent-Length: 1000"
            assert asked(connection, head, b"x" * 1000) == (200, {"bytes": 1000})


def test_a_request_with_two_lengths_is_refused():
    """A proxy before the service may go by the one and the service by the other: the rest is then another request."""
    with served() as port, connected(port) as connection:
        head = "POST /echo HTTP/1.1\nHost: h\nContent-Length: 5\nTransfer-Encoding: chunked"
        status, said = asked(connection, head, b"0\r\n\r\n")
    assert status == 400 and "exclude each other" in said["error"]


@pytest.mark.parametrize(
    ("soft", "hard", "files", "connections", "warns"),
    [
        (1024, 4096, 4096, 3896, False),
        (1024, 1024, 1024, 824, True),
        (256, 300, 300, 150, True),
        (1024, resource.RLIM_INFINITY, 65_536, 8192, False),
        (1 << 20, 1 << 20, 1 << 20, 8192, False),
    ],
)
def test_the_limit_of_open_files_is_raised(monkeypatch, caplog, soft, hard, files, connections, warns):
    caplog.set_level(logging.INFO)
    changed = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: changed.append(limits))
    capacity = Capacity.of_this_process()
    capacity.log()
    assert capacity == Capacity(connections, files)
    assert changed == ([(files, hard)] if files != soft else [])
    assert f"open files: at most {files}, connections: at most {connections}" in caplog.text
    assert ("ulimit -Hn" in caplog.text) == warns


@pytest.mark.parametrize(
    ("host", "token", "warns"),
    [("127.0.0.1", None, False), ("localhost", None, False), ("::1", None, False), ("0.0.0.0", "t", False)]
    + [("0.0.0.0", None, True), ("10.0.0.1", None, True), ("::", None, True)],
)
def test_an_open_service_says_so(caplog, host, token, warns):
    warn_if_open(host, token)
    assert ("without a token" in caplog.text) == warns


def test_a_token_file_that_cannot_be_used(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "two words")
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        token_of(None, "SOME_TOKEN")
    assert "two words" not in str(caught.value)
    with pytest.raises(ValueError, match=r"none: No such file"):
        token_of(tmp_path / "none", "SOME_TOKEN")
    monkeypatch.setenv("SOME_TOKEN", "")
    assert token_of(None, "SOME_TOKEN") is None


def test_a_service_on_all_interfaces_names_an_address_that_others_reach(monkeypatch):
    with bind("0.0.0.0", 0) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setattr(process, "reachable_address", lambda family: "10.0.0.7")
        assert url_of("0.0.0.0", listener) == f"http://10.0.0.7:{port}"
        assert url_of("127.0.0.1", listener) == f"http://127.0.0.1:{port}"
    monkeypatch.undo()
    address = process.reachable_address()
    assert socket.inet_aton(address) and os.fspath(address) != "0.0.0.0"
