"""A real HTTP server that speaks as an OpenAI-compatible endpoint, well or badly, by a script."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What is sent back: a status, a body, and how long it takes."""

    body: object = field(default_factory=dict)
    status: int = 200
    seconds: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)


def chat(
    text: object, prompt_tokens: int = 100, completion_tokens: int = 1, *, finish: str = "stop", **message: object
) -> Answer:
    """A chat completion; `message` are further fields of its message."""
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": 0}
    said = {"role": "assistant", "content": text, **message}
    choices = [{"index": 0, "message": said, "finish_reason": finish}]
    return Answer(
        {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices, "usage": usage}
    )


def choice(**fields: Any) -> Answer:
    """A text completion with one choice."""
    choices = [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop", **fields}]
    return Answer({"id": "1", "object": "text_completion", "created": 0, "model": "m", "choices": choices})


def stream(*texts: str, finish: str | None = "stop") -> Answer:
    """A streamed text completion in these pieces, as server-sent events."""
    pieces: list[dict[str, Any]] = [{"text": text, "finish_reason": None} for text in texts]
    pieces += [{"text": "", "finish_reason": finish}] if finish else []
    return stream_of(*pieces)


def stream_of(*choices: Mapping[str, Any]) -> Answer:
    """A streamed text completion of these choices."""
    events = [
        json.dumps({"id": "1", "object": "text_completion", "choices": [{"index": 0, **each}]}) for each in choices
    ]
    body = "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])
    return Answer(body, headers={"content-type": "text/event-stream"})


Script = Callable[[Mapping[str, Any], int], Answer]
"""`(request, times that an equal request was seen before) -> answer`."""


@dataclass
class FakeEndpoint:
    """What was asked, and how it is answered."""

    script: Script
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: dict[str, Any], key: str) -> Answer:
        with self._lock:
            seen = self.requests.count(request)
            self.requests.append(request)
            self.keys.append(key)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        answer = self.script(request, seen)
        time.sleep(answer.seconds)
        with self._lock:
            self._now -= 1
        return answer


@contextmanager
def serve(script: Script) -> Iterator[FakeEndpoint]:
    """A running endpoint."""
    endpoint = FakeEndpoint(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(Answer({"error": "no such path"}, status=404))

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._send(endpoint.answer(request, self.headers.get("authorization", "")))

        def _send(self, answer: Answer) -> None:
            body = answer.body.encode() if isinstance(answer.body, str) else json.dumps(answer.body).encode()
            try:
                self.send_response(answer.status)
                for name, value in {"content-type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # the caller has given up

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
