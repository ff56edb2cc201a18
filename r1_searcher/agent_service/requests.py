"""The bodies of requests: what they may hold, and what of it is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec

from r1_searcher.agent_service.api_error import wrong

Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
TopP = Annotated[float, msgspec.Meta(gt=0, le=1)]
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")


class Part(msgspec.Struct):
    """A piece of a message."""

    type: str
    text: str | None = None


class RequestMessage(msgspec.Struct):
    """What somebody said."""

    role: str
    content: str | list[Part] | None = None


class Typed(msgspec.Struct):
    """An object of which the kind matters."""

    type: str


class StreamOptions(msgspec.Struct):
    """What a stream carries."""

    include_usage: bool | None = None


class CompletionRequest(msgspec.Struct):
    """`POST /v1/chat/completions`. What is not named here has no effect."""

    messages: Annotated[list[RequestMessage], msgspec.Meta(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    n: int | None = None
    logprobs: bool | None = None
    stop: str | list[str] | None = None
    tools: list[Typed] | None = None
    response_format: Typed | None = None

    @property
    def question(self) -> str:
        """The last message of the user. Raises `ApiError`."""
        for place, message in reversed(list(enumerate(self.messages))):
            if message.role == "user":
                return _text(message.content, f"messages[{place}].content")
        raise wrong("messages must hold one of the role 'user': the last of them is the question", "messages")

    def check(self) -> None:
        """Refuse what cannot be done, rather than leave it out. Raises `ApiError`."""
        unwanted = {
            "n": self.n not in (None, 1),
            "logprobs": bool(self.logprobs),
            "stop": bool(self.stop),
            "tools": bool(self.tools),
            "response_format": self.response_format is not None and self.response_format.type != "text",
        }
        for name, is_asked in unwanted.items():
            if is_asked:
                what = "an agent gives one answer in text, and searches by itself"
                raise wrong(f"{name} is not supported: {what}", name, "unsupported_parameter")


class EpisodeRequest(msgspec.Struct):
    """`POST /episodes`."""

    question: str
    model: str | None = None
    temperature: Temperature | None = None
    seed: Seed | None = None


class Rating(msgspec.Struct):
    """`POST /ratings`."""

    id: Annotated[str, msgspec.Meta(max_length=100)]
    thumb: Annotated[str, msgspec.Meta(pattern="^(up|down)$")]
    comment: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None


Body = TypeVar("Body", CompletionRequest, EpisodeRequest, Rating)


def read(body: bytes, kind: type[Body]) -> Body:
    """A request's body. Raises `ApiError` saying which field is wrong."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        place = _PLACE.search(str(error))
        raise wrong(str(error), place[1] or None if place else None) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise wrong(f"the body must be a JSON object ({error})") from error


def _text(content: str | Sequence[Part] | None, place: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for part in content or ():
        if part.type != "text" or part.text is None:
            raise wrong(f"a question is text; found a part of the type {part.type!r:.40}", place)
        texts.append(part.text)
    return "\n".join(texts)
