"""Every user of the chat client, and every fault of a served model: judge, simulator, summaries, policies.

A row is a way in which a server answers; a column is who asks. What is expected stands in the row, and where a user
differs, it says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from support.episodes.fakes import tag_tokenizer
from support.services.fake_endpoint import Answer, Script, chat, choice, serve, stream

from foundation.chat.endpoint import EndpointConfig, OpenAIEndpoint
from foundation.errors import OutsideFailure, RunAborted
from foundation.retry import RetryPolicy
from r1_searcher.episode.question import QARow
from r1_searcher.inference.decoding import Decoding
from r1_searcher.inference.endpoint import EndpointPolicies
from r1_searcher.reward.judge import Case, verdict_of
from retriever.passage import SearchRequest
from retriever.simulated.engine import SimulatedRetriever
from retriever.web.page_text import PageSummarizer, PageText

RETRY = RetryPolicy(attempts=2, backoff=0.01)
ROW = QARow("1", "Who?", ("Koechlin",))
SAMPLED = Decoding(temperature=0.5, seed=3)


@dataclass(frozen=True)
class User:
    """Somebody who asks a served model."""

    ask: Callable[[OpenAIEndpoint], Awaitable[str]]
    """What was understood. Raises an `OutsideFailure` or a `RunAborted`."""
    text: str
    """What the model is to say."""
    answer: Callable[..., Answer]
    """The text in the form that this user asks for."""


async def judge(endpoint: OpenAIEndpoint) -> str:
    verdict = await verdict_of(endpoint, Case("Who?", ("Koechlin",), "Koechlin"))
    if not verdict.is_said or verdict.correct is None:
        raise OutsideFailure(verdict.reply, status=verdict.status)
    return str(verdict.correct)


async def simulator(endpoint: OpenAIEndpoint) -> str:
    retriever = SimulatedRetriever(endpoint, mode="prompt", retry=RETRY)
    hits = await retriever.search(SearchRequest("tower", 5, {"row": ROW}))
    return " | ".join(hit.passage.text for hit in hits)


async def summary(endpoint: OpenAIEndpoint) -> str:
    return await PageSummarizer(endpoint).summarize(PageText("http://page", "Tower", "It is tall."), "How tall?")


def policy(*, text_only: bool) -> Callable[[OpenAIEndpoint], Awaitable[str]]:
    async def ask(endpoint: OpenAIEndpoint) -> str:
        tokenizer = tag_tokenizer()
        policies = EndpointPolicies(endpoint, tokenizer, text_only=text_only)
        turn = await policies.policy(SAMPLED).generate(tokenizer.encode("Q"), stops=("</s>",), max_tokens=7)
        return tokenizer.decode(turn.ids)

    return ask


CHATS = {
    "judge": User(judge, "True", chat),
    "simulator": User(simulator, "Doc 1: The tower is tall.\nDoc 2: Koechlin drew it.", chat),
    "summary": User(summary, "Koechlin drew it.", chat),
}
POLICIES = {
    "policy": User(policy(text_only=False), "So", lambda text: choice(text=text, token_ids=list(text.encode()))),
    "text policy": User(policy(text_only=True), "So", stream),
}
USERS = CHATS | POLICIES
UNDERSTOOD = {
    "judge": "True",
    "simulator": "The tower is tall. | Koechlin drew it.",
    "summary": "Koechlin drew it.",
    "policy": "So",
    "text policy": "So",
}


def asked(user: User, script: Script) -> tuple[str | Exception, list[dict[str, Any]]]:
    """What the user understood, or its failure; and the requests that it sent."""

    async def scenario(url: str) -> str:
        endpoint = OpenAIEndpoint(EndpointConfig(url, "m", timeout=20.0, retry=RETRY))
        try:
            return await user.ask(endpoint)
        finally:
            await endpoint.close()

    with serve(script) as served:
        try:
            found: str | Exception = asyncio.run(scenario(served.url))
        except (OutsideFailure, RunAborted) as failure:
            found = failure
    return found, served.requests


def error(status: int, message: str) -> Answer:
    return Answer({"error": {"message": message}}, status, headers={"retry-after": "0"})


REFUSALS: Mapping[str, tuple[Answer, str, int]] = {
    "wrong key": (error(401, "wrong key"), "status 401: wrong key", 1),
    "empty account": (error(402, "Insufficient Balance"), "status 402: Insufficient Balance", 1),
    "key of somebody else": (Answer({"detail": "Invalid API key"}, 403), "status 403: Invalid API key", 1),
    "wrong model": (Answer({"object": "error", "message": "The model `m` does not exist."}, 404), "model `m`", 1),
    "wrong path": (Answer("<html>Not Found</html>", 404, headers={"content-type": "text/html"}), "Not Found", 1),
    "too long": (error(400, "maximum context length is 10 tokens"), "maximum context length", 1),
    "rate limit": (error(429, "slow down"), "slow down", 2),
    "out of order": (error(500, "out of memory"), "out of memory", 2),
    "overloaded": (error(529, "overloaded"), "overloaded", 2),
    "behind a gateway": (Answer("<html>Bad Gateway</html>", 502, headers={"content-type": "text/html"}), "502", 2),
}
"""The answer, what the failure says of it, and the requests that it takes to know."""


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("user", USERS)
def test_a_refusal_is_one_line_in_the_server_s_words(user, name):
    answer, said, requests = REFUSALS[name]
    found, sent = asked(USERS[user], lambda request, seen: answer)
    assert isinstance(found, Exception), found
    assert said in str(found) and "\n" not in str(found) and "http://127.0.0.1" in str(found)
    assert len(sent) == requests


@pytest.mark.parametrize(
    ("error_row", "said", "requests"),
    [
        ({"message": "wrong key", "code": 401}, "status 401: wrong key", {1}),
        ({"message": "Provider returned error", "code": 429}, "status 429: Provider returned error", {2}),
        ({"message": "flagged", "code": 502}, "status 502: flagged", {2}),
        ({"message": "model is loading", "code": "loading"}, "model is loading", {1, 2}),
        ("no credits", "no credits", {1, 2}),
    ],
    ids=["wrong key", "rate limit", "behind a gateway", "no status", "a text"],
)
@pytest.mark.parametrize("user", [*CHATS, "policy"])
def test_an_error_that_comes_as_an_answer_is_an_error(user, error_row, said, requests):
    """OpenRouter's gateway: UKGovernmentBEIS/inspect_ai #1534, SWE-agent/mini-swe-agent PR #902, dify #9249."""
    body = {"id": None, "choices": None, "model": None, "error": error_row}
    found, sent = asked(USERS[user], lambda request, seen: Answer(body))
    assert isinstance(found, Exception) and said in str(found) and "\n" not in str(found)
    assert len(sent) in requests


@pytest.mark.parametrize("status", [409, 429, 503])
@pytest.mark.parametrize("user", USERS)
def test_a_busy_server_is_asked_again(user, status):
    turns = iter([error(status, "later"), USERS[user].answer(USERS[user].text)])
    found, sent = asked(USERS[user], lambda request, seen: next(turns))
    assert found == UNDERSTOOD[user] and len(sent) == 2


@pytest.mark.parametrize("body", ["{}", "[]", '{"choices": []}', '{"choices": [{}]}', "no JSON", ""])
@pytest.mark.parametrize("user", USERS)
def test_what_is_no_answer_is_a_failure(user, body):
    found, sent = asked(USERS[user], lambda request, seen: Answer(body))
    assert isinstance(found, Exception) and "\n" not in str(found)
    assert len(sent) <= 2


def parameter(name: str, answer: Answer) -> Script:
    """A server that does not take it."""
    refusal = error(400, f"Unsupported parameter: '{name}' is not supported with this model.")
    return lambda request, seen: refusal if name in request else answer


@pytest.mark.parametrize("name", ["temperature", "max_tokens", "seed"])
@pytest.mark.parametrize("user", CHATS)
def test_a_parameter_that_is_refused_is_left_out(user, name, caplog):
    found, sent = asked(CHATS[user], parameter(name, chat(CHATS[user].text)))
    assert found == UNDERSTOOD[user] and name not in sent[-1]
    assert len(caplog.messages) == len(sent) - 1 == (name in sent[0])


@pytest.mark.parametrize("user", POLICIES)
def test_of_a_policy_only_the_seed_may_be_left_out(user):
    right = POLICIES[user].answer(POLICIES[user].text)
    assert asked(POLICIES[user], parameter("seed", right))[0] == "So"
    found, sent = asked(POLICIES[user], parameter("temperature", right))
    assert isinstance(found, RunAborted) and "temperature" in str(found) and len(sent) == 1


THOUGHTS = ["<think>\n{}\n</think>\n\n{}", "{}\n</think>{}", "<reasoning>{}</reasoning>{}", "[THINK]{}[/THINK]{}"]
OTHERWISE = {"judge": "False", "simulator": "Doc 1: Not this.", "summary": "None"}
"""What the thought considers."""


@pytest.mark.parametrize("form", THOUGHTS)
@pytest.mark.parametrize("user", CHATS)
def test_a_thought_is_no_answer(user, form):
    """DeepSeek-R1, Qwen3, Magistral behind a server without a reasoning parser."""
    text = form.format(OTHERWISE[user], CHATS[user].text)
    assert asked(CHATS[user], lambda request, seen: chat(text))[0] == UNDERSTOOD[user]


@pytest.mark.parametrize("user", CHATS)
def test_a_thought_that_is_cut_off_is_no_answer(user):
    """The budget was spent on it; what stands in it was not said."""
    for answer in (
        chat(f"<think>{CHATS[user].text}", finish="length"),
        chat(None, finish="length", reasoning_content=CHATS[user].text),
    ):
        found, _ = asked(CHATS[user], lambda request, seen, answer=answer: answer)
        assert isinstance(found, Exception), found


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("content", [None, ""])
@pytest.mark.parametrize("user", CHATS)
def test_a_reply_that_a_reasoning_parser_took_for_a_thought(user, content, field):
    answer = chat(content, **{field: CHATS[user].text})
    assert asked(CHATS[user], lambda request, seen: answer)[0] == UNDERSTOOD[user]


@pytest.mark.parametrize("user", CHATS)
def test_a_reply_in_parts(user):
    parts = [{"type": "thinking", "thinking": OTHERWISE[user]}, {"type": "text", "text": CHATS[user].text}]
    assert asked(CHATS[user], lambda request, seen: chat(parts))[0] == UNDERSTOOD[user]
