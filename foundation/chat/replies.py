"""What servers that call themselves OpenAI-compatible answer: where the text of a reply is, what a refusal refuses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from foundation.errors import Rejected
from foundation.http import message_of, printable

_REFUSED = re.compile(
    r"unsupported|not (?:be )?(?:supported|permitted|allowed|recogni[sz]ed|accepted|implemented|available)|"
    r"(?:does|do)(?: not|n't) (?:support|accept|allow|recogni[sz]e|take)|un(?:known|recogni[sz]ed|expected)|"
    r"no longer|deprecated|extra (?:inputs|fields)|extra_forbidden|only the default|got an unexpected|remove the",
    re.IGNORECASE,
)
"""A parameter is not taken at all; not that its value is too large."""
_THOUGHT_TAGS = r"think(?:ing)?|thoughts?|reasoning|analysis|reflection"
_THOUGHT_END = re.compile(rf"</(?:{_THOUGHT_TAGS})>|\[/THINK\]|◁/think▷", re.IGNORECASE)
_THOUGHT_START = re.compile(rf"<(?:{_THOUGHT_TAGS})>|\[THINK\]|◁think▷", re.IGNORECASE)
_REFUSAL_STATUSES = (400, 404, 422, 501)


def message_text(reply: Any) -> str | None:
    """The text of a chat completion, as the library gives it; None where there is none.

    Content may be a list of parts. Servers that take the thinking apart (vLLM with a reasoning parser, DeepSeek,
    SGLang) put the whole reply of a model that did not think, or did not close its thought, into
    `reasoning_content` or `reasoning` and leave the content empty: that is the text where the reply was not cut off.
    """
    try:
        choice = reply.choices[0]
        message = choice.message
    except (AttributeError, IndexError, TypeError):
        return None
    content = _joined(getattr(message, "content", None))
    if content:
        return content
    finished = getattr(choice, "finish_reason", None) != "length"
    thoughts = [_joined(getattr(message, name, None)) for name in ("reasoning_content", "reasoning")]
    return next((text for text in thoughts if text and finished), content)


def why_nothing(reply: Any) -> tuple[str, int | None]:
    """What a reply without text or choice has instead; and the status that it should have come with, where it says so.

    Gateways answer 200 and put their error, or the one of the server behind them, into the body.
    """
    error = getattr(reply, "error", None)
    if error:
        code = error.get("code") if isinstance(error, dict) else None
        is_status = isinstance(code, int) and 400 <= code < 600
        return printable(message_of({"error": error}) or str(error))[:300], code if is_status else None
    choice = next(iter(getattr(reply, "choices", None) or ()), None)
    refusal = getattr(getattr(choice, "message", None), "refusal", None)
    if refusal:
        return f"a refusal: {printable(str(refusal))[:300]!r}", None
    if getattr(choice, "finish_reason", None) == "content_filter":
        return "nothing, since a filter of the server's kept it back", None
    return repr(str(reply)[:200]), None


def spoken(text: str) -> str | None:
    """What a model says after what it thinks; None where a thought does not end.

    Servers without a reasoning parser leave the thought in the text, with or without the tag that opens it.
    """
    said = _THOUGHT_END.split(text)[-1]
    return None if _THOUGHT_START.search(said) else said


def _joined(content: object) -> str | None:
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, dict) else getattr(part, "text", None) for part in content]
        found = [text for text in texts if isinstance(text, str)]
        return "".join(found) if found or not content else None
    return content if isinstance(content, str) else None


def refused_parameter(error: Rejected, sent: Iterable[str]) -> str:
    """The parameter, of those that were sent, that a server says it does not take; empty for another refusal."""
    if error.status not in _REFUSAL_STATUSES or not _REFUSED.search(error.reason):
        return ""
    places = {name: found.start() for name in sent if (found := re.search(rf"(?<!\w){name}(?!\w)", error.reason))}
    return min(places, key=lambda name: places[name], default="")
