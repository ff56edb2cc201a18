"""The JSON of an OpenAI-compatible server: completions, the events of a stream, errors."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

from r1_searcher.own_agent.history import Turn
from r1_searcher.own_agent.messages import Refused

MODEL = "policy"
"""The model's name; requests may name any."""


def completion(turn: Turn) -> dict[str, Any]:
    """The whole answer."""
    choice = {"index": 0, "message": turn.message.to_json(), "logprobs": None, "finish_reason": turn.finish_reason}
    return {**_head("chat.completion"), "choices": [choice], "usage": _usage(turn)}


def events(turn: Turn, *, shows_usage: bool) -> Iterator[bytes]:
    """The answer as server-sent events: who speaks, the text, the calls, why it ends, the end.

    A turn is sent once it is whole: where it ends, and whether it is a call, is not known before.
    """
    head, message = _head("chat.completion.chunk"), turn.message
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if message.content:
        deltas.append({"content": message.content})
    deltas += [{"tool_calls": [{"index": at, **call.to_json()}]} for at, call in enumerate(message.tool_calls)]
    for delta in deltas:
        yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": turn.finish_reason}]})
    if shows_usage:
        yield _event({**head, "choices": [], "usage": _usage(turn)})
    yield b"data: [DONE]\n\n"


def models() -> dict[str, Any]:
    """The one model that there is."""
    return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "r1_searcher"}]}


def error(refused: Refused) -> dict[str, Any]:
    """A refusal."""
    return {"error": {"message": str(refused), "type": "invalid_request_error", "param": None, "code": refused.code}}


def _head(kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{secrets.token_hex(8)}", "object": kind, "created": int(time.time()), "model": MODEL}


def _usage(turn: Turn) -> dict[str, int]:
    total = turn.prompt_tokens + turn.completion_tokens
    return {"prompt_tokens": turn.prompt_tokens, "completion_tokens": turn.completion_tokens, "total_tokens": total}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"
