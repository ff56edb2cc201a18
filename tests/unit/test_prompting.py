"""Questions to prompts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import ROW, ByteTokenizer

from r1_searcher.prompting import render_prompt
from r1_searcher.protocol import PROTOCOLS, R1_SEARCHER_BASE, R1_SEARCHER_CHAT, R1_SEARCHER_TINY


class SpyTokenizer(ByteTokenizer):
    def apply_chat_template(self, messages):
        self.messages = list(messages)
        return "TEMPLATE"


def test_plain_protocols_do_not_touch_the_template():
    tokenizer = SpyTokenizer()
    render_prompt(R1_SEARCHER_BASE, ROW, tokenizer)
    assert not hasattr(tokenizer, "messages")


def test_chat_messages_and_prefill():
    tokenizer = SpyTokenizer()
    assert render_prompt(R1_SEARCHER_CHAT, ROW, tokenizer) == "TEMPLATE<think>"
    system, user = tokenizer.messages
    assert (system["role"], user) == ("system", {"role": "user", "content": ROW.question})
    assert "{question}" not in system["content"] and "<|begin_of_query|>" in system["content"]


def test_a_plain_protocol_with_a_prefill_ends_in_it():
    prompt = render_prompt(replace(R1_SEARCHER_TINY, prefill="Well,"), ROW, ByteTokenizer())
    assert prompt == "Question : Where is the tower?\n<think>Well,"


@pytest.mark.parametrize("question", ["{question}", "{question}{question}", "a\nb", "100 % {x}", "<think>", "  "])
def test_the_question_is_inserted_once_and_literally(question):
    prompt = render_prompt(R1_SEARCHER_TINY, replace(ROW, question=question), ByteTokenizer())
    assert prompt == f"Question : {question}\n<think>"


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_every_prompt_holds_question_and_tags_it_asks_for(protocol):
    prompt = render_prompt(protocol, ROW, ByteTokenizer())
    assert prompt.count(ROW.question) == 1 and prompt.endswith("<think>")
    if protocol is not R1_SEARCHER_TINY:
        assert all(tag in prompt for tag in protocol.tags)
