"""Renders a question as the text that an episode starts with, and the frame around its documents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import Any

from foundation.errors import InputError
from r1_searcher.episode.documents import PassageSanitizer
from r1_searcher.episode.protocol import Protocol, Tags
from r1_searcher.episode.question import QARow
from r1_searcher.episode.tokenization import Tokenizer


def render_prompt(protocol: Protocol, row: QARow, tokenizer: Tokenizer) -> str:
    """The prompt, ending exactly where the policy continues.

    Base protocols are plain text, begun as the tokenizer begins a text (with a BOS, where the model has one); chat
    protocols go through the tokenizer's own template, which brings its own, and then the prefill. A question is data,
    too: a special token in it is broken as in a passage, every other question keeps its bytes.
    """
    question = sanitizer_of(frozenset(tokenizer.special_texts)).without_tags(row.question)
    if protocol.ends_with_question_mark and not question.rstrip().endswith("?"):
        question = f"{question.rstrip()}?"
    user = protocol.prompt.replace("{question}", question)
    if not protocol.chat:
        begun = user.startswith(tokenizer.beginning)  # a prompt of the user's own may have it already
        return ("" if begun else tokenizer.beginning) + user + protocol.prefill
    return prefilled(protocol, _chat(protocol, tokenizer, user))


@lru_cache(maxsize=32)
def sanitizer_of(forbidden: frozenset[str]) -> PassageSanitizer:
    """What breaks these strings; made once for all prompts and messages of a tokenizer."""
    return PassageSanitizer(forbidden)


def takes_system_message(protocol: Protocol, tokenizer: Tokenizer) -> bool:
    """Whether the template shows the protocol's system message, so that it need not go into the user's turn."""
    return not protocol.system_prompt or _with_system_message(protocol, tokenizer, "question", ()) is not None


def _chat(protocol: Protocol, tokenizer: Tokenizer, user: str, *later: dict[str, str]) -> str:
    """A conversation that begins with the protocol's system message and this message of the user.

    Templates that refuse a system message (Gemma's), or leave it out, are shown its text before the user's.
    """
    system = _system(protocol)
    text = _with_system_message(protocol, tokenizer, user, later) if system else None
    if text is not None:
        return text
    first = {"role": "user", "content": f"{system}\n\n{user}" if system else user}
    return tokenizer.apply_chat_template([first, *later], _schemas(protocol))


def _with_system_message(
    protocol: Protocol, tokenizer: Tokenizer, user: str, later: Sequence[dict[str, str]]
) -> str | None:
    """The conversation with the system message as such; None where the template does not show it."""
    system = _system(protocol)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}, *later]
    try:
        text = tokenizer.apply_chat_template(messages, _schemas(protocol))
    except InputError:
        return None
    return text if "".join(system.split()) in "".join(text.split()) else None  # templates strip, and indent


def _schemas(protocol: Protocol) -> list[dict[str, Any]]:
    return [tool.schema for tool in protocol.tools]


def _system(protocol: Protocol) -> str:
    return protocol.system_prompt.replace("{date}", date.today().isoformat())


def prefilled(protocol: Protocol, text: str) -> str:
    """A rendered chat with the protocol's start of the assistant's turn, which some templates write themselves."""
    return text if text.rstrip().endswith(protocol.prefill) else text + protocol.prefill


def end_of_turn(tokenizer: Tokenizer) -> str:
    """What the chat template writes after an assistant's message: a special token, or the text's beginning.

    Raises:
        InputError: the template does not take a conversation.
    """
    said = "@@said@@"
    messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": said}]
    messages.append({"role": "user", "content": "more"})
    after = tokenizer.apply_chat_template(messages).partition(said)[2].lstrip()
    ends = [text for text in tokenizer.special_texts if after.startswith(text)]
    return max(ends, key=len, default=after[:20])


def documents_frame(protocol: Protocol, tokenizer: Tokenizer) -> Tags:
    """What the environment writes before and after the passages.

    Where they are a message of their own (a tool's, or `documents_role`) it is cut out of the tokenizer's chat
    template: all that the template puts between the end of the assistant's call and that message's text, and from there
    to where the assistant continues. A sampled EOS that ended the call stands in the context already and is not
    written twice.

    Raises:
        InputError: the template does not show such messages.
    """
    role = "tool" if protocol.tools else protocol.documents_role
    if not role:
        return protocol.frame
    called, answered = "@@called@@", "@@answered@@"
    content = answered if protocol.tools else f"{protocol.before_documents}{answered}{protocol.after_documents}"
    later = ({"role": "assistant", "content": called}, {"role": role, "content": content})
    text = _chat(protocol, tokenizer, "question", *later)
    _, found_call, rest = text.partition(called)
    before, found_answer, after = rest.partition(answered)
    if not (found_call and found_answer):
        raise InputError(
            f"the tokenizer's chat template does not show {role} messages, which {protocol.name} needs; "
            f"it gave {text!r}"
        )
    ended_by_eos = not protocol.stops_at_query
    return Tags(after_sampled_eos(before, tokenizer) if ended_by_eos else before, prefilled(protocol, after))


def after_sampled_eos(text: str, tokenizer: Tokenizer) -> str:
    """What the template writes after an assistant's message, without its EOS: that was sampled."""
    for eos in sorted(tokenizer.eos_texts, key=len, reverse=True):
        if text.lstrip().startswith(eos):
            return text.lstrip().removeprefix(eos)
    return text
