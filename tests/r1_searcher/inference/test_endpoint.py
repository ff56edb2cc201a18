"""A served model as policies: what is sent, what comes back, and what happens when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support.episodes.fakes import tag_tokenizer
from support.services.fake_endpoint import Answer, FakeEndpoint, choice, serve, stream, stream_of

from foundation.chat.endpoint import EndpointConfig, OpenAIEndpoint
from foundation.errors import InputError, RunAborted
from foundation.retry import RetryPolicy
from r1_searcher.episode.policy import Completion, Finish
from r1_searcher.inference.decoding import Decoding
from r1_searcher.inference.endpoint import EndpointPolicies
from r1_searcher.inference.policies import ServedModel

TOKENIZER = tag_tokenizer()
STOP = TOKENIZER.pieces[1]
Act = Callable[[EndpointPolicies], Coroutine[Any, Any, Any]]


def ask(endpoint: FakeEndpoint, act: Act, *, text_only: bool = False, timeout: float = 5.0) -> Any:
    """`act` on a source at the endpoint, with two quick attempts."""

    async def run() -> Any:
        retry = RetryPolicy(attempts=2, backoff=0.01)
        client = OpenAIEndpoint(EndpointConfig(endpoint.url, "m", timeout=timeout, retry=retry))
        try:
            return await act(EndpointPolicies(client, TOKENIZER, text_only=text_only))
        finally:
            await client.close()

    return asyncio.run(run())


def turn(decoding: Decoding | None = None) -> Act:
    return lambda source: source.policy(decoding or Decoding()).generate([1, 2], stops=(STOP,), max_tokens=7)


@pytest.mark.parametrize(
    ("fields", "finish"),
    [
        ({"finish_reason": "stop", "stop_reason": STOP}, Finish.STOP),
        ({"finish_reason": "stop", "stop_reason": None}, Finish.EOS),
        ({"finish_reason": "stop", "stop_reason": 151643}, Finish.EOS),
        ({"finish_reason": "length"}, Finish.LENGTH),
    ],
)
def test_ids_go_in_and_sampled_ids_come_back(fields, finish):
    with serve(lambda request, seen: choice(text="ignored", token_ids=[5, 6, 256], **fields)) as endpoint:
        assert ask(endpoint, turn()) == Completion((5, 6, 256), finish)
    (request,) = endpoint.requests
    assert (request["prompt"], request["stop"], request["max_tokens"]) == ([1, 2], [STOP], 7)
    assert (request["temperature"], request["top_p"], "seed" in request) == (0.0, 1.0, False)
    # what a server would take from the model's generation_config
    assert (request["top_k"], request["min_p"], request["repetition_penalty"]) == (0, 0.0, 1.0)
    assert request["include_stop_str_in_output"] and not request["skip_special_tokens"]


def test_sampling_is_seeded_by_the_context():
    with serve(lambda request, seen: choice(token_ids=[5])) as endpoint:
        for seed in (0, 0, 1):
            ask(endpoint, turn(Decoding(1.0, seed=seed)))
    first, again, other = (request["seed"] for request in endpoint.requests)
    assert first == again == Decoding(1.0).seed_of([1, 2]) != other


def test_a_busy_endpoint_is_asked_again_and_a_dead_one_ends_the_run():
    def busy_once(request, seen: int) -> Answer:
        return choice(token_ids=[5]) if seen else Answer({"error": "busy"}, status=503)

    with serve(busy_once) as endpoint:
        assert ask(endpoint, turn()).ids == (5,)
    with (
        serve(lambda request, seen: Answer({"error": {"message": "out of memory"}}, status=500)) as endpoint,
        pytest.raises(RunAborted, match=r"out of memory.*attempt 2 of 2.*same command"),
    ):
        ask(endpoint, turn())
    assert len(endpoint.requests) == 2
    with serve(lambda request, seen: Answer(seconds=0.6)) as endpoint, pytest.raises(RunAborted, match="within 0.2 s"):
        ask(endpoint, turn(), timeout=0.2)


@pytest.mark.parametrize(
    "answer",
    [
        choice(),
        choice(token_ids=None),
        choice(token_ids=[1], finish_reason="abort"),
        Answer({"choices": []}),
        Answer("<html>"),
        Answer("[]"),
    ],
)
def test_an_answer_without_ids_is_never_made_up(answer):
    with serve(lambda request, seen: answer) as endpoint, pytest.raises(RunAborted):
        ask(endpoint, turn())


class TestStream:
    """A turn whose ids are told as they come."""

    PIECES = (
        {"token_ids": [5, 6], "finish_reason": None},
        {"token_ids": [256], "finish_reason": "stop", "stop_reason": STOP},
    )

    def turn(self, told: Callable[[Any], None]) -> Act:
        return lambda source: source.policy(Decoding()).stream([1, 2], stops=(STOP,), max_tokens=7, told=told)

    def test_pieces_are_told_and_make_the_turn(self):
        seen: list[list[int]] = []
        with serve(lambda request, _: stream_of(*self.PIECES)) as endpoint:
            assert ask(endpoint, self.turn(seen.append)) == Completion((5, 6, 256), Finish.STOP)
        (request,) = endpoint.requests
        assert request["stream"] is True and request["return_token_ids"] and request["prompt"] == [1, 2]
        assert seen == [[5, 6], [256]]

    def test_a_busy_endpoint_is_asked_again_before_it_has_begun(self):
        def busy_once(request, seen: int) -> Answer:
            return stream_of(*self.PIECES) if seen else Answer({"error": "busy"}, status=503)

        with serve(busy_once) as endpoint:
            assert ask(endpoint, self.turn(lambda ids: None)).ids == (5, 6, 256)
        assert len(endpoint.requests) == 2

    @pytest.mark.parametrize("pieces", [PIECES[:1], ({"text": "no ids", "finish_reason": "stop"},), ()])
    def test_half_a_turn_is_never_one(self, pieces):
        with serve(lambda request, _: stream_of(*pieces)) as endpoint, pytest.raises(RunAborted):
            ask(endpoint, self.turn(lambda ids: None))
        assert len(endpoint.requests) == 1

    def test_a_stream_that_breaks_off_is_not_asked_again(self):
        def broken(request, seen: int) -> Answer:
            body = stream_of(self.PIECES[0]).body.removesuffix("data: [DONE]\n\n")
            error = '{"error": {"message": "out of memory"}}'
            return Answer(f"{body}data: {error}\n\n", headers={"content-type": "text/event-stream"})

        with serve(broken) as endpoint, pytest.raises(RunAborted, match=r"out of memory.*in the midst"):
            ask(endpoint, self.turn(lambda ids: None))
        assert len(endpoint.requests) == 1


class TestCheck:
    def test_a_server_of_ids_passes(self):
        with serve(lambda request, seen: choice(token_ids=[5], prompt_token_ids=request["prompt"])) as endpoint:
            assert ask(endpoint, lambda source: source.check([1, 2])) is None
            assert endpoint.requests[0]["max_tokens"] == 1

    @pytest.mark.parametrize(
        ("answer", "complaint"),
        [
            (choice(text="x"), "--endpoint-text"),
            (choice(token_ids=[5], prompt_token_ids=[0, 1, 2]), "another of 3"),
            (Answer({"error": {"message": "no model m"}}, status=404), "no model m"),
        ],
    )
    def test_what_cannot_be_evaluated_is_refused(self, answer, complaint):
        with serve(lambda request, seen: answer) as endpoint, pytest.raises(InputError, match=complaint):
            ask(endpoint, lambda source: source.check([1, 2]))

    def test_nobody_listens(self):
        with pytest.raises(InputError, match="does not answer"):
            ServedModel(EndpointConfig("http://127.0.0.1:9", "m"), "org/tokenizer").check()


class TestTextOnly:
    @pytest.mark.parametrize(
        ("pieces", "finish", "text", "ended"),
        [
            (["look ", STOP[:5], STOP[5:] + " made up", " docs"], "stop", f"look {STOP}", Finish.STOP),
            (["an ", "answer"], "stop", "an answer", Finish.EOS),
            (["cut o"], "length", "cut o", Finish.LENGTH),
        ],
    )
    def test_text_up_to_and_with_the_stop(self, pieces, finish, text, ended):
        with serve(lambda request, seen: stream(*pieces, finish=finish)) as endpoint:
            found = ask(endpoint, turn(), text_only=True)
        assert (TOKENIZER.decode(found.ids), found.finish) == (text, ended)
        (request,) = endpoint.requests
        assert request["prompt"] == TOKENIZER.decode([1, 2]) and request["stream"] is True

    def test_a_broken_stream_ends_the_run(self):
        with serve(lambda request, seen: stream("half", finish=None)) as endpoint, pytest.raises(RunAborted):
            ask(endpoint, turn(), text_only=True)

    def test_an_api_that_refuses_extensions_is_asked_without(self):
        def strict(request, seen: int) -> Answer:
            if "skip_special_tokens" in request:
                return Answer({"error": {"message": "unknown parameter"}}, status=400)
            return stream("an answer")

        async def check_and_play(source: EndpointPolicies) -> Completion:
            await source.check([1])
            return await source.policy(Decoding()).generate([1], stops=(), max_tokens=3)

        with serve(strict) as endpoint:
            assert ask(endpoint, check_and_play, text_only=True).finish is Finish.EOS
        assert len(endpoint.requests) == 3
