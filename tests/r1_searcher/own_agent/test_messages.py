"""Requests with anything that JSON can say in any of their fields: each is answered or refused, none is a crash."""

from __future__ import annotations

import asyncio
import json
from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.episodes.fakes import ROW, ScriptedPolicy
from support.episodes.own_agents import TOOL, environment_of
from support.hostile.any_files import texts, values
from support.models.tokenizer_families import FAMILIES

from foundation.files import parse_json
from r1_searcher.episode.tokenization import HFTokenizer
from r1_searcher.own_agent.conversation import FULL, Conversation
from r1_searcher.own_agent.messages import ROLES, ChatRequest, Refused

TEMPLATE = (
    "{% if tools %}{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.name }}{{ m.tool_call_id }}\n{{ m.content }}"
    "{% for call in m.tool_calls %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
"""Shows whatever a message holds, as the templates of models with tools do."""


def objects(**fields: st.SearchStrategy) -> st.SearchStrategy:
    """Objects of which any field may be missing or be anything, and now and then no object at all."""
    return st.fixed_dictionaries({}, optional={name: kind | values for name, kind in fields.items()}) | values


calls = {"id": texts, "type": st.just("function")}
arguments = texts | values.map(json.dumps)
roles = st.sampled_from(list(ROLES))
some_messages = st.lists(
    objects(
        role=roles,
        content=texts | st.lists(objects(type=st.just("text"), text=texts), max_size=2),
        tool_calls=st.lists(objects(**calls, function=objects(name=texts, arguments=arguments)), max_size=2),
        tool_call_id=texts,
        name=texts,
    ),
    min_size=1,
    max_size=3,
)
some_bodies = objects(
    messages=some_messages,
    tools=st.lists(st.just(TOOL) | objects(function=objects(name=texts)), max_size=2),
    stop=texts | st.lists(texts, max_size=2),
    max_tokens=st.integers(1, 20),
    max_completion_tokens=st.integers(1, 20),
    tool_choice=st.sampled_from(["auto", "none"]),
    stream=st.booleans(),
    stream_options=objects(include_usage=st.booleans()),
    n=st.just(1),
    response_format=st.just({"type": "text"}),
    functions=st.just([]),
)
"""What may be no request at all."""

requests = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries(
                {"role": roles, "content": texts, "name": texts, "tool_call_id": texts},
                optional={
                    "tool_calls": st.lists(
                        st.fixed_dictionaries(
                            {**calls, "function": st.fixed_dictionaries({"name": texts, "arguments": arguments})}
                        ),
                        max_size=2,
                    )
                },
            ),
            min_size=1,
            max_size=3,
        ),
        "tools": st.lists(
            st.fixed_dictionaries(
                {"function": st.fixed_dictionaries({"name": texts, "description": values, "parameters": values})}
            ),
            max_size=2,
        ),
    }
)
"""What is a request, with anything in the places that are the agent's own."""


@cache
def tokenizer() -> HFTokenizer:
    made = FAMILIES["Qwen2"]()
    made.hf.chat_template = TEMPLATE
    return made


def sent(body: object) -> object:
    """The body as it comes over HTTP."""
    return parse_json(json.dumps(body).encode())


@given(body=some_bodies)
@example({"messages": [{"role": ["user"], "content": "Where?"}]})
@example({"messages": [{"role": {}, "content": "Where?"}]})
def test_any_body_is_read_or_refused(body):
    try:
        assert ChatRequest.parse(sent(body)).messages
    except Refused as refused:
        assert refused.status == 400


USER = {"role": "user", "content": "Where?"}
HALF = {"name": "web_search", "arguments": '{"query": "\\ud800"}'}


@given(body=requests)
@example({"messages": [USER], "tools": [{"function": {"name": "x", "description": "\ud800"}}]})
@example({"messages": [USER, {"role": "assistant", "tool_calls": [{"id": "1", "function": HALF}]}]})
def test_any_request_is_answered_or_refused(body):
    async def talk() -> None:
        conversation = Conversation(environment_of(tokenizer()), ROW, ScriptedPolicy(tokenizer(), ["Paris"]))
        try:
            await conversation.complete(ChatRequest.parse(sent(body)))
        except Refused as refused:
            assert refused.code in ("template", FULL)
        assert not conversation.ended.done()

    asyncio.run(talk())


def test_what_is_nested_too_deeply_for_the_template_is_refused():
    """Reading JSON goes a little deeper than writing it within a template."""
    schema: dict[str, object] = {}
    for _ in range(3000):
        schema = {"a": schema}
    request = ChatRequest.parse({"messages": [USER], "tools": [{"function": {"name": "x", "parameters": schema}}]})

    async def talk() -> None:
        conversation = Conversation(environment_of(tokenizer()), ROW, ScriptedPolicy(tokenizer(), ["Paris"]))
        with pytest.raises(Refused, match="recursion") as refused:
            await conversation.complete(request)
        assert refused.value.code == "template"

    asyncio.run(talk())
