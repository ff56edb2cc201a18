"""The doctor's look at a search service: the real one, peers' dialects, and servers that answer wrongly."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.models.subjects import (
    says,
)
from support.services.search_servers import TOWNS

from r1_searcher.doctor.service import check_search
from r1_searcher.episode.question import QARow
from r1_searcher.inspection.finding import Level
from retriever.passage import Hit, Passage
from retriever.wire.bodies import RequestLimits
from retriever.wire.formats import FORMATS


def foreign_server(answer) -> ThreadingHTTPServer:
    """A server that answers a POST with `answer(path, body)`: None is 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = answer(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@pytest.fixture
def served():
    servers = []

    def start(answer) -> str:
        servers.append(foreign_server(answer))
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def in_format(name: str, hits=lambda ask: tuple(Hit(passage, 1.0) for passage in TOWNS[: ask.top_k])):
    wire_format = FORMATS[name]

    def answer(path: str, body: bytes) -> bytes | None:
        if path != wire_format.path:
            return None
        ask = wire_format.decode_request(json.loads(body), RequestLimits())
        return wire_format.encode_answer(ask, [hits(ask) for _ in ask.queries])

    return answer


def test_a_dead_retriever_is_found(good):
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        says(check_search(replace(good, search=url)), Level.FAILED, "does not answer", "start it")


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("own", "research_batch")])
def test_another_dialect_is_named(good, served, name):
    url = served(in_format(name))
    says(check_search(replace(good, search=url)), Level.FAILED, repr(name))


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("search_r1", "/retrieve"),
        ("search_r1", "?wire=search_r1"),
        ("zerosearch", "/retrieve?wire=zerosearch"),
        ("r1_searcher", "/queries"),
        ("research", "?wire=research"),
    ],
)
def test_another_systems_server_is_fine_where_its_address_says_so(good, served, name, address):
    finding = check_search(replace(good, search=served(in_format(name)) + address))
    assert finding.level is not Level.FAILED, finding


def test_garbage_and_bad_addresses_are_found(good, served):
    url = served(lambda path, body: b"<html>hello</html>")
    says(check_search(replace(good, search=url)), Level.FAILED, "does not answer")
    says(check_search(replace(good, search="nonsense")), Level.FAILED, "nonsense")


def test_a_service_that_ignores_top_k_or_the_order_is_found(good, served):
    many = served(in_format("own", lambda ask: tuple(Hit(passage, 1.0) for passage in TOWNS)))
    says(check_search(replace(good, search=many)), Level.FAILED, "at most 2 hits")
    rising = served(in_format("own", lambda ask: tuple(Hit(TOWNS[i], float(i)) for i in range(ask.top_k))))
    says(check_search(replace(good, search=rising)), Level.WARNING, "not best first")
    mute = served(in_format("own", lambda ask: (Hit(Passage("1", "t", " "), 1.0),)))
    says(check_search(replace(good, search=mute)), Level.FAILED, "without text")


def test_questions_that_find_nothing_are_worth_a_word(good, live_url):
    row = QARow(id="q", question="xyzzy", answers=("a",), source="test")
    says(check_search(replace(good, rows=(row,), search=live_url)), Level.WARNING, "right corpus")
