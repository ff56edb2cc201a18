"""Requests of an OpenAI-compatible client as values: messages, tools, stops. What cannot be trained on is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foundation.files import parse_json

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
"""Roles that a client may send -> those of chat templates."""
MAX_STOPS = 16


class Refused(Exception):
    """A request that is answered with an error, in OpenAI's form."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        """What agents can branch on."""
        self.status = status
        """HTTP status. OpenAI's clients try 408, 409, 429 and 5xx again, so none of ours is one of these."""


@dataclass(frozen=True)
class ToolCall:
    """A function that the policy calls."""

    id: str
    name: str
    arguments: str
    """JSON, as it was written."""

    def is_same(self, other: ToolCall) -> bool:
        """Whether both call the same; a client may have renamed the call, or written its JSON anew."""
        return self.name == other.name and _json_or_text(self.arguments) == _json_or_text(other.arguments)

    def to_json(self) -> dict[str, Any]:
        """As an assistant's message holds it."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: str
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    """Of a tool's message: which call it answers."""
    name: str = ""

    def is_same(self, other: Message) -> bool:
        """Whether both say the same. Space at either end does not count: clients strip it."""
        return (
            self.role == other.role
            and self.content.strip() == other.content.strip()
            and len(self.tool_calls) == len(other.tool_calls)
            and all(map(ToolCall.is_same, self.tool_calls, other.tool_calls))
        )

    def for_template(self) -> dict[str, Any]:
        """As chat templates take it: arguments as objects."""
        found: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            functions = [{"name": call.name, "arguments": _json_or_text(call.arguments)} for call in self.tool_calls]
            calls = zip(self.tool_calls, functions, strict=True)
            found["tool_calls"] = [{"id": call.id, "type": "function", "function": each} for call, each in calls]
        further = {"tool_call_id": self.tool_call_id, "name": self.name}
        return found | {key: value for key, value in further.items() if value}

    def to_json(self) -> dict[str, Any]:
        """As a completion shows it."""
        if not self.tool_calls:
            return {"role": self.role, "content": self.content}
        calls = [call.to_json() for call in self.tool_calls]
        return {"role": self.role, "content": self.content or None, "tool_calls": calls}


@dataclass(frozen=True)
class ChatRequest:
    """What is used of a request to `/v1/chat/completions`.

    Temperature and its like are not: how tokens are sampled is the run's to say, not the agent's.
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    stops: tuple[str, ...] = ()
    max_tokens: int | None = None
    reads_calls: bool = True
    """Whether tool calls in the answer are read; `tool_choice: none` says no."""
    streams: bool = False
    shows_usage: bool = True
    """Whether a stream ends with the counts of tokens."""

    @classmethod
    def parse(cls, body: object) -> ChatRequest:
        """The request of a JSON body. Raises `Refused`, saying what cannot be."""
        if not isinstance(body, dict):
            raise Refused("invalid_request", "the body must be a JSON object")
        _refuse_what_does_not_train(body)
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise Refused("invalid_request", "'messages' must be a list that is not empty")
        return cls(
            messages=tuple(_message(message, place) for place, message in enumerate(messages)),
            tools=_tools(body.get("tools")),
            stops=_stops(body.get("stop")),
            max_tokens=_max_tokens(body),
            reads_calls=body.get("tool_choice") != "none",
            streams=body.get("stream") is True,
            shows_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        )


def _refuse_what_does_not_train(body: Mapping[str, Any]) -> None:
    if body.get("n") not in (None, 1):
        raise Refused("unsupported", "n must be 1: one episode is one conversation")
    if (body.get("response_format") or {"type": "text"}) != {"type": "text"}:
        raise Refused("unsupported", "response_format must be text: constrained sampling would be trained on wrongly")
    if body.get("tool_choice") not in (None, "auto", "none"):
        raise Refused(
            "unsupported", "tool_choice must be auto or none: a call that is forced would be trained on wrongly"
        )
    if body.get("functions"):
        raise Refused("unsupported", "'functions' is the earlier form; give 'tools'")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise Refused("invalid_request", "'stream_options' must be an object")


def _message(found: object, place: int) -> Message:
    where = f"messages[{place}]"
    role = found.get("role") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(role, str) or role not in ROLES:
        raise Refused("invalid_request", f"{where} must be an object with a role of {', '.join(ROLES)}")
    return Message(
        role=ROLES[role],
        content=_content(found.get("content"), where),
        tool_calls=tuple(_call(call, where) for call in _list(found.get("tool_calls"), f"{where}.tool_calls")),
        tool_call_id=clean(found.get("tool_call_id") or "", where),
        name=clean(found.get("name") or "", where),
    )


def _content(found: object, where: str) -> str:
    if isinstance(found, list):
        return "".join(_text_part(part, where) for part in found)
    return clean(found or "", f"{where}.content")


def _text_part(part: object, where: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        raise Refused("unsupported", f"{where}.content holds something else than text")
    return clean(part.get("text"), where)


def _call(found: object, where: str) -> ToolCall:
    function = found.get("function") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(function, dict):
        raise Refused("invalid_request", f"{where}.tool_calls must hold objects with a function")
    name, arguments = function.get("name"), function.get("arguments") or "{}"
    return ToolCall(clean(found.get("id") or "", where), clean(name, where), clean(arguments, where))


def _tools(found: object) -> tuple[Mapping[str, Any], ...]:
    tools = _list(found, "tools")
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Refused("invalid_request", "each of 'tools' must be a function with a name")
    return tuple(tools)


def _stops(found: object) -> tuple[str, ...]:
    stops = [found] if isinstance(found, str) else _list(found, "stop")
    if len(stops) > MAX_STOPS or not all(isinstance(stop, str) and stop for stop in stops):
        raise Refused("invalid_request", f"'stop' must be at most {MAX_STOPS} strings, none empty")
    return tuple(clean(stop, "stop") for stop in stops)


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    given = [value for key in ("max_completion_tokens", "max_tokens") if (value := body.get(key)) is not None]
    if any(not isinstance(value, int) or isinstance(value, bool) or value < 1 for value in given):
        raise Refused("invalid_request", "'max_tokens' must be a whole number of at least 1")
    return min(given, default=None)


def _list(found: object, where: str) -> list[Any]:
    if found is not None and not isinstance(found, list):
        raise Refused("invalid_request", f"'{where}' must be a list")
    return found or []


def clean(text: object, where: str) -> str:
    """The text; halves of surrogate pairs, legal in JSON, become question marks. Raises `Refused` for no text."""
    if not isinstance(text, str):
        raise Refused("invalid_request", f"{where} must be text, found {type(text).__name__}")
    return text.encode("utf-8", "replace").decode("utf-8")


def _json_or_text(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text
