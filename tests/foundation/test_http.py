"""What an answer's status and headers mean, the plain probe, and what may be shown."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from flask import Flask
from support.services.fake_web import serve_app

from foundation.errors import BadResponse, Rejected, Unavailable
from foundation.http import HttpLimits, Reply, checked, display_url, error_text, probe, retry_after_s


@pytest.mark.parametrize(
    ("status", "kind"),
    [(408, Unavailable), (409, Unavailable), (425, Unavailable), (429, Unavailable), (500, Unavailable)]
    + [(400, Rejected), (401, Rejected), (404, Rejected), (204, BadResponse), (302, BadResponse)],
)
def test_what_a_status_means(status, kind):
    with pytest.raises(kind, match=rf"http://x answered {status}: why") as caught:
        checked(Reply(status, b'{"error": "why"}', {"retry-after": "7"}), "http://x")
    error = caught.value
    assert type(error) is kind and (error.status, error.reason) == (status, "why")
    assert error.retry_after_s == (7.0 if kind is Unavailable else None)
    assert checked(Reply(200, b"x"), "http://x") == b"x"


def test_retry_after():
    assert (retry_after_s("3"), retry_after_s(" 30 "), retry_after_s(None), retry_after_s("soon")) == (
        3,
        30,
        None,
        None,
    )
    later, earlier = (format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True) for hours in (1, -1))
    assert retry_after_s("9" * 400) == retry_after_s("999999") == retry_after_s("Fri, 31 Dec 9999 23:59:59 GMT") == 3600
    assert 3590 < (retry_after_s(later) or 0) <= 3600 and retry_after_s(earlier) == 0.0


def test_an_error_message_is_one_short_line():
    said = error_text(b"<html>\n\n  Bad\n Gateway " + b"x" * 5000)
    assert said.startswith("<html> Bad Gateway xxx") and len(said) <= 200
    assert error_text(json.dumps({"error": "a\nb" * 1000}).encode()).count("\n") == 0
    assert error_text(b'{"detail": "empty"}') == "empty"


def test_what_is_shown_of_an_address():
    assert display_url("https://me:secret@host:1/a?key=secret") == "https://host:1/a"
    assert "secret" not in display_url("http://me:secret@[::1")


def test_a_probe_gives_any_status():
    app = Flask("probed")
    app.get("/health", endpoint="health")(lambda: ("loading", 503))
    app.get("/moved", endpoint="moved")(lambda: ("", 302, {"Location": "/health"}))
    with serve_app(app) as url:
        assert (probe(f"{url}/health", 5.0), probe(f"{url}/moved", 5.0), probe(f"{url}/none", 5.0)) == (503, 302, 404)


def test_a_probe_of_nobody():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="ConnectionRefusedError"):
            probe(f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}/", 5.0)
        taken.listen()
        with pytest.raises(Unavailable, match="(?i)time"):
            probe(f"http://127.0.0.1:{taken.getsockname()[1]}/", 0.2)
    with pytest.raises(ValueError, match="http://host:port"):
        probe("host:80", 5.0)


@pytest.mark.parametrize("wrong", [{"connect_timeout": 0}, {"read_timeout": -1}, {"max_connections": 0}])
def test_limits_that_no_exchange_could_keep(wrong):
    with pytest.raises(ValueError, match="above 0"):
        HttpLimits(**wrong)
