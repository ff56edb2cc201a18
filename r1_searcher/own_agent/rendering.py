"""Messages as text, by the tokenizer's own template: the whole beginning, then only what is new.

What was sampled is never rendered again: templates strip, leave thoughts out, and would end in other ids. What the
template writes after the policy's last turn is cut out after a marker that stands in the place of that turn.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from foundation.errors import InputError
from r1_searcher.episode.prompting import after_sampled_eos, prefilled, sanitizer_of
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.tokenization import Tokenizer
from r1_searcher.own_agent.messages import Message, Refused, clean

_MARKER = f"@@{secrets.token_hex(8)}@@"


def opening_text(
    protocol: Protocol, tokenizer: Tokenizer, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]
) -> str:
    """The first request's messages, ending where the policy continues.

    Raises:
        Refused: the template does not take these messages, or leaves one of them out.
    """
    said = _harmless(protocol, tokenizer, messages)
    text = _rendered(tokenizer, said, tools)
    _check_shown(said, text)
    return prefilled(protocol, text)


def text_between(
    protocol: Protocol,
    tokenizer: Tokenizer,
    earlier: Sequence[Message],
    new: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    *,
    ended_with_eos: bool,
) -> str:
    """What stands between the end of the policy's last turn and the start of its next.

    Args:
        protocol: its prefill begins every turn.
        tokenizer: whose template is used.
        earlier: all messages so far, the last of them the policy's turn.
        new: messages that the agent adds; may be none.
        tools: as in the first request.
        ended_with_eos: whether the turn's EOS was sampled; it is not written twice.

    Raises:
        Refused: as `opening_text`.
    """
    turn = Message("assistant", _MARKER)
    before = [replace(turn, content="…") if message.role == "assistant" else message for message in earlier[:-1]]
    added = _harmless(protocol, tokenizer, new)
    messages = [*_harmless(protocol, tokenizer, before), turn, *added]
    _, found, after = _rendered(tokenizer, messages, tools).rpartition(_MARKER)
    if not found:
        raise Refused("template", "the tokenizer's chat template does not show what an assistant says")
    _check_shown(added, after)
    return prefilled(protocol, after_sampled_eos(after, tokenizer) if ended_with_eos else after)


def _rendered(tokenizer: Tokenizer, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> str:
    shown: list[Any] = [message.for_template() for message in messages]
    try:
        text = tokenizer.apply_chat_template(shown, [dict(tool) for tool in tools])
    except (InputError, TypeError, RecursionError) as error:  # templates add what is not there to text
        raise Refused("template", f"the tokenizer's chat template does not take these messages: {error}") from error
    return clean(text, "the conversation")  # tools, and calls whose JSON is read, may hold halves of surrogate pairs


def _check_shown(messages: Sequence[Message], text: str) -> None:
    """Templates that know no tools, or no system, may leave their messages out without a word."""
    shown = "".join(text.split())
    for message in messages:
        forms = (
            message.content,
            json.dumps(message.content, ensure_ascii=False)[1:-1],
        )  # Llama 3 writes results as JSON
        if message.role != "assistant" and not any("".join(form.split()) in shown for form in forms):
            raise Refused("template", f"the tokenizer's chat template does not show what {message.role} messages say")


def _harmless(protocol: Protocol, tokenizer: Tokenizer, messages: Sequence[Message]) -> list[Message]:
    """The messages with every special token broken in what users and tools say: both may quote strangers.

    What the agent itself says, as system or in the assistant's place, keeps its bytes.
    """
    special = frozenset(tokenizer.special_texts)
    breaks = {"user": sanitizer_of(special), "tool": sanitizer_of(special | frozenset(protocol.tags))}
    return [
        replace(message, content=breaks[message.role].without_tags(message.content))
        if message.role in breaks
        else message
        for message in messages
    ]
