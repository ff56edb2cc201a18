"""Local stand-ins for the web: any Flask app on a real port, and the search services' wire formats."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.serving import make_server

KEY = "sk-secret-0123456789"
KEY_VARIABLES = ("SERPER_API_KEY", "SERPAPI_API_KEY", "TAVILY_API_KEY")


@contextmanager
def serve_app(app: Flask) -> Iterator[str]:
    """The app on a free port of this machine; gives its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


@dataclass(frozen=True)
class Seen:
    """One request that a fake got."""

    method: str
    path: str
    parameters: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class FakeServices:
    """The JSON services: every answer is `rows`, in each service's own shape, unless faults stand before it."""

    rows: list[dict[str, str]] = field(default_factory=list)
    """Each with url, title, text."""
    faults: list[Response] = field(default_factory=list)
    """Given first, one per request."""
    seen: list[Seen] = field(default_factory=list)

    def app(self) -> Flask:
        app = Flask("services")

        @app.before_request
        def note() -> Response | None:
            body = request.get_json(silent=True)
            self.seen.append(Seen(request.method, request.path, dict(request.args), dict(request.headers), body))
            return self.faults.pop(0) if self.faults else None

        @app.post("/search")
        def serper() -> Response:
            organic = [self._row(row, "link", "snippet") | {"position": n} for n, row in enumerate(self.rows, 1)]
            return jsonify({"searchParameters": {"q": request.get_json()["q"]}, "organic": organic, "credits": 1})

        @app.get("/search.json")
        def serpapi() -> Response:
            if not self.rows:
                return jsonify({"error": "Google hasn't returned any results for this query."})
            return jsonify({"organic_results": [self._row(row, "link", "snippet") for row in self.rows]})

        @app.post("/tavily")
        def tavily() -> Response:
            results = [self._row(row, "url", "content") | {"score": 0.9} for row in self.rows]
            return jsonify({"query": "q", "answer": None, "images": [], "results": results, "response_time": 0.1})

        @app.get("/w/api.php")
        def wikipedia() -> Response:
            pages = [self._row(row, "fullurl", "extract") | {"index": n} for n, row in enumerate(self.rows, 1)]
            # The API sorts by page number, not by rank.
            return jsonify({"batchcomplete": True} | ({"query": {"pages": pages[::-1]}} if pages else {}))

        return app

    @staticmethod
    def _row(row: dict[str, str], url_key: str, text_key: str) -> dict[str, Any]:
        return {url_key: row["url"], "title": row["title"], text_key: row["text"]}


PATHS = {"serper": "/search", "serpapi": "/search.json", "tavily": "/tavily", "wikipedia": "/w/api.php"}
ROWS = [
    {"url": "https://a.example/1", "title": "One", "text": "first  text\nof\tone"},
    {"url": "https://a.example/2", "title": "Two", "text": "second"},
    {"url": "https://a.example/1", "title": "One again", "text": "twice"},
    {"url": "", "title": "Nowhere", "text": "no address"},
]


def article(title: str, *paragraphs: str) -> str:
    """A page as the web has them: menu, article, footer."""
    text = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return (
        f"<!doctype html><html><head><title>{title} - The Site</title><style>p {{ color: red }}</style></head><body>"
        "<nav><ul><li><a href='/'>Home</a></li><li><a href='/about'>About the menu</a></li></ul></nav>"
        f"<article><h1>{title}</h1>{text}</article><script>var tracker = 1;</script>"
        "<footer>All rights reserved by the footer</footer></body></html>"
    )
