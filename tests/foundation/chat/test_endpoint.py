"""An OpenAI-compatible endpoint that breaks in every way below HTTP: typed, bounded in time and in requests."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from support.services.fake_endpoint import Answer, chat, choice, serve

from foundation.chat.clients import MAX_ANSWER_BYTES
from foundation.chat.endpoint import EndpointConfig, OpenAIEndpoint
from foundation.errors import BadResponse, InputError, OutsideFailure, Rejected, TimedOut, Unavailable
from foundation.retry import RetryPolicy

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: 10000\r\n\r\n"
JSON, EVENTS = HEAD % b"application/json", HEAD % b"text/event-stream"
CHUNK = b'data: {"id": "1", "choices": [{"index": 0, "text": "ab", "finish_reason": null}]}\n\n'
TIMEOUT, PATIENCE = 0.4, 20.0
"""Seconds of an attempt: where it is to run out, and where another failure is to come first, on a busy machine too."""


@contextmanager
def sending(pieces: Sequence[bytes], *, endless: bool = False) -> Iterator[str]:
    """A server that answers every connection with these bytes, a moment apart, and hangs up; gives its address.

    With `endless` it sends the last of them for as long as somebody listens.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(20)

        def answer(connection: socket.socket) -> None:
            with connection:
                connection.recv(65536)
                for piece in itertools.chain(pieces, itertools.repeat(pieces[-1]) if endless else ()):
                    try:
                        connection.sendall(piece)
                    except OSError:
                        return
                    time.sleep(0.03)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def asked(url: str, *, streamed: bool, timeout: float) -> None:
    endpoint = OpenAIEndpoint(EndpointConfig(url, "m", timeout=timeout, retry=RetryPolicy(attempts=2, backoff=0.01)))
    try:
        if streamed:
            await endpoint.complete_until("prompt", ("never",), max_tokens=9)
        else:
            await endpoint.chat([{"role": "user", "content": "question"}])
    finally:
        await endpoint.close()


@pytest.mark.parametrize(
    ("pieces", "failure", "attempts"),
    [
        ([b"this is not HTTP"], Unavailable, 2),
        ([JSON, b'{"choices": '], Unavailable, 2),
        ([JSON, b" "], TimedOut, 2),  # byte by byte, so that no single read takes long
        ([EVENTS, CHUNK], Unavailable, 2),
        ([EVENTS, CHUNK], TimedOut, 2),
        ([EVENTS, b"data: {broken\n\n"], BadResponse, 1),
        ([EVENTS, b'data: {"error": {"message": "out of memory"}}\n\n'], Unavailable, 2),
    ],
)
def test_failures_are_typed_and_bounded(pieces, failure, attempts):
    timeout = TIMEOUT if failure is TimedOut else PATIENCE
    with sending(pieces, endless=failure is TimedOut) as url, pytest.raises(OutsideFailure) as caught:
        asyncio.run(asked(url, streamed=pieces[0] == EVENTS, timeout=timeout))
    assert (type(caught.value), caught.value.attempts) == (failure, attempts)
    assert url in str(caught.value) and ("gave up after attempt 2 of 2" in str(caught.value)) is (attempts == 2)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("http://host:8000/", "http://host:8000/v1"),
        ("https://host/openai/v1/", "https://host/openai/v1"),
        # the address of a request, as providers' pages show it: Kilo-Org/kilocode #2035, cloudflare-docs #22906
        ("http://host:8000/v1/chat/completions", "http://host:8000/v1"),
        ("http://host:8000/v1/completions/", "http://host:8000/v1"),
        ("https://host/compat/chat/completions", "https://host/compat"),
    ],
)
def test_addresses(given, used):
    assert EndpointConfig(given, "m").base_urls == (used,)


def test_what_cannot_be_an_endpoint_is_refused():
    for url in ("host:8000", "ftp://host", "http://", "", "http://a,", "http://[::1", "http://host/v1?key=1"):
        with pytest.raises(InputError, match="http://host:port"):
            EndpointConfig(url, "m")
    assert "secret" not in EndpointConfig("http://user:secret@host:1", "m").shown


def chatted(endpoint, key_variable="", **settings):
    """The reply to a chat, with the client closed."""

    async def scenario():
        retry = RetryPolicy(attempts=2, backoff=0.01)
        client = OpenAIEndpoint(EndpointConfig(endpoint.url, "m", key_variable, retry=retry))
        try:
            return await client.chat([{"role": "user", "content": "question"}], **settings)
        finally:
            await client.close()

    return asyncio.run(scenario())


@pytest.mark.parametrize(("key", "sent"), [(None, ""), (" ", ""), ("sk-1", "Bearer sk-1")])
def test_the_key_comes_from_the_variable_that_is_named_for_it_and_without_one_none_is_sent(monkeypatch, key, sent):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-api.openai.com")
    if key is not None:
        monkeypatch.setenv("MY_KEY", key)
    with serve(lambda request, seen: chat("yes")) as endpoint:
        assert chatted(endpoint, key_variable="MY_KEY").text == "yes" and endpoint.keys == [sent]
    with serve(lambda request, seen: chat("yes")) as endpoint:
        assert chatted(endpoint).text == "yes" and endpoint.keys == [""]


def test_a_busy_endpoint_is_asked_again_and_the_requests_are_counted():
    with serve(lambda request, seen: chat("yes") if seen else Answer(status=409)) as endpoint:
        assert chatted(endpoint).attempts == 2
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    busy = Answer({"error": {"message": "later"}}, 503, headers={"Retry-After": later})
    with serve(lambda request, seen: busy) as endpoint, pytest.raises(Unavailable, match="later.*deadline") as caught:
        chatted(endpoint)
    assert (caught.value.attempts, len(endpoint.requests), caught.value.status) == (1, 1, 503)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (chat("x" * MAX_ANSWER_BYTES), "more than"),
        (Answer("{}", headers={"content-encoding": "gzip"}), "compressed"),
        (chat(None), "a message with text"),
    ],
)
def test_an_answer_that_cannot_be_used(answer, said):
    with serve(lambda request, seen: answer) as endpoint, pytest.raises(BadResponse, match=said) as caught:
        chatted(endpoint)
    assert len(endpoint.requests) == 1 and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("choice_row", "said"),
    [
        ({"finish_reason": "stop", "message": {"content": None, "refusal": "I cannot\nhelp."}}, "a refusal: 'I cannot"),
        ({"finish_reason": "content_filter", "message": {"content": None}}, "a filter of the server's"),
    ],
)
def test_what_a_model_would_not_say_is_told(choice_row, said):
    with serve(lambda request, seen: Answer({"choices": [{"index": 0, **choice_row}]})) as endpoint:
        with pytest.raises(BadResponse, match=said) as caught:
            chatted(endpoint)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [b"text/html", b"text/event-stream", b"text/plain"])
def test_a_page_where_the_list_of_models_should_be_is_no_traceback(kind):
    """mindsdb/mindshub #9676, FB208/OpenBidKit_Yibiao #4: the address of a web page, which answers 200 to any path."""
    page = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: 6\r\n\r\n<html>" % kind
    with sending([page]) as url:
        with pytest.raises(BadResponse, match="OpenAI-compatible server"):
            asyncio.run(OpenAIEndpoint(EndpointConfig(url, "m")).check(PATIENCE))
        asyncio.run(OpenAIEndpoint(EndpointConfig(url, "m")).check_listening())


def test_one_client_in_two_event_loops():
    with serve(lambda request, seen: chat("yes")) as endpoint:
        client = OpenAIEndpoint(EndpointConfig(endpoint.url, "m"))
        for _ in range(2):
            assert asyncio.run(client.chat([{"role": "user", "content": "question"}])).text == "yes"


def test_whoever_answers_listens():
    """A server that knows no list of models, refuses or fails is an answer; no connection is none."""

    async def look(url):
        await OpenAIEndpoint(EndpointConfig(url, "m")).check_listening()

    with serve(lambda request, seen: chat("yes")) as endpoint:
        asyncio.run(look(endpoint.url))
    for status in (b"401 Unauthorized", b"503 Busy"):
        with sending([b"HTTP/1.1 %s\r\ncontent-length: 0\r\n\r\n" % status]) as url:
            asyncio.run(look(url))
    with pytest.raises(InputError, match="does not answer"):
        asyncio.run(look("http://127.0.0.1:9"))


PARTS = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "ye"}, {"type": "text", "text": "s"}]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (chat("yes", reasoning_content="no?"), "yes"),
        (chat(None, reasoning_content="yes"), "yes"),  # vLLM with a reasoning parser, thinking switched off
        (chat("", reasoning_content="yes"), "yes"),
        (chat(None, reasoning="yes"), "yes"),  # newer vLLM: vllm-project/vllm-ascend #8042
        (chat(None, reasoning_content=None, reasoning="yes"), "yes"),
        (chat(PARTS), "yes"),  # Mistral's thinking models
        (chat(""), ""),
        (chat([]), ""),
    ],
)
def test_where_servers_put_the_text(answer, text):
    with serve(lambda request, seen: answer) as endpoint:
        assert chatted(endpoint).text == text


def test_a_thought_that_was_cut_off_is_no_text():
    """vllm-project/vllm #13375: what stands in a thought is not what the model says."""
    cut = chat(None, finish="length", reasoning_content="True?")
    with serve(lambda request, seen: cut) as endpoint, pytest.raises(BadResponse, match="a message with text"):
        chatted(endpoint)


def refusing(*names: str, say: str):
    """A server that takes none of these parameters, and says so about the first that it meets."""

    def script(request, seen):
        found = next((name for name in names if name in request), None)
        return chat("yes") if found is None else Answer({"error": {"message": say.format(found)}}, status=400)

    return script


@pytest.mark.parametrize(
    "say",
    [
        # OpenAI's reasoning models: caozhiyuan/copilot-api #164, decolua/9router #560, Mai-with-u/MaiBot #1406
        "Unsupported parameter: '{0}' is not supported with this model. Use 'max_completion_tokens' instead.",
        "Unsupported value: '{0}' does not support 0.5 with this model. Only the default (1) value is supported.",
        "Unrecognized request argument supplied: {0}",
        "Unknown parameter: '{0}'.",
        "`{0}` is deprecated for this model",
        "Completions.create() got an unexpected keyword argument '{0}'",
        "[{{'type': 'extra_forbidden', 'loc': ('body', '{0}'), 'msg': 'Extra inputs are not permitted'}}]",
    ],
)
def test_a_parameter_that_a_server_refuses_is_told_once_and_left_out(say, caplog):
    script = refusing("max_tokens", "temperature", "seed", say=say)

    async def scenario(url):
        client = OpenAIEndpoint(EndpointConfig(url, "m", retry=RetryPolicy(attempts=1)))
        messages = [{"role": "user", "content": "question"}]
        try:
            asked = [client.chat(messages, max_tokens=9, temperature=0.5, seed=1, top_p=0.9) for _ in range(4)]
            return [await client.chat(messages, max_tokens=9, temperature=0.5), *await asyncio.gather(*asked)]
        finally:
            await client.close()

    with serve(script) as endpoint:
        replies = asyncio.run(scenario(endpoint.url))
    assert {reply.text for reply in replies} == {"yes"} and replies[0].attempts == 3
    assert sum(reply.attempts for reply in replies) == len(endpoint.requests)
    last = endpoint.requests[-1]
    assert (last["max_completion_tokens"], last["top_p"]) == (9, 0.9)
    assert not {"max_tokens", "temperature", "seed"} & set(last)
    assert len(caplog.messages) == 3 and "max_completion_tokens is sent in its place" in caplog.text


def test_a_server_that_takes_no_bound_at_all():
    with serve(refusing("max_completion_tokens", "max_tokens", say="{0} is not supported")) as endpoint:
        assert chatted(endpoint, max_tokens=9).attempts == 3
        assert "max_completion_tokens" not in endpoint.requests[-1]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "max_tokens is too large: 999999. This model supports at most 4096 completion tokens"),
        (400, "temperature must be between 0 and 1"),
        (400, "This model's maximum context length is 10 tokens"),
        (401, "wrong key; max_tokens is not supported"),
        (400, "model m is not supported"),
    ],
)
def test_other_refusals_are_refusals(status, message):
    with serve(lambda request, seen: Answer({"error": {"message": message}}, status)) as endpoint:
        with pytest.raises(Rejected, match=f"status {status}: {message[:20]}"):
            chatted(endpoint, max_tokens=9, temperature=0.5)
        assert len(endpoint.requests) == 1


def test_of_a_policy_s_parameters_only_the_seed_may_be_left_out():
    async def completed(url, **parameters):
        client = OpenAIEndpoint(EndpointConfig(url, "m"))
        try:
            return await client.complete("prompt", **parameters)
        finally:
            await client.close()

    with serve(lambda request, seen: _completion(request, "seed")) as endpoint:
        assert asyncio.run(completed(endpoint.url, seed=1, temperature=0.0)).text == "x"
    said = pytest.raises(Rejected, match="temperature is not supported")
    with serve(lambda request, seen: _completion(request, "temperature")) as endpoint, said:
        asyncio.run(completed(endpoint.url, seed=1, temperature=0.0))


def _completion(request, refused):
    if refused in request:
        return Answer({"error": {"message": f"{refused} is not supported"}}, 400)
    return choice(text="x")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "wrong\nkey", "type": "auth"}}, "wrong key"),
        ({"error": "wrong key"}, "wrong key"),
        ({"detail": "wrong key"}, "wrong key"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "wrong key"}]}, "body.seed: wrong key"),
        ({"message": "wrong key", "object": "error"}, "wrong key"),
        ("wrong key", "wrong key"),
        ({"code": 7}, "401"),
    ],
)
def test_the_server_s_own_message(body, said):
    with serve(lambda request, seen: Answer(body, 401)) as endpoint, pytest.raises(Rejected) as caught:
        chatted(endpoint)
    assert said in str(caught.value) and "{" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_public_endpoint_is_asked_through_the_proxy_and_a_near_one_directly(monkeypatch):
    """The proxy here is the server itself: it is sent the whole address."""
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve(lambda request, seen: chat("yes")) as proxy, serve(lambda request, seen: chat("yes")) as near:
        monkeypatch.setenv("http_proxy", proxy.url)

        async def scenario():
            client = OpenAIEndpoint(EndpointConfig(f"http://judge.example.org/v1,{near.url}/v1", "m"))
            try:
                return [await client.chat([{"role": "user", "content": "question"}]) for _ in range(4)]
            finally:
                await client.close()

        assert len(asyncio.run(scenario())) == 4
        assert (len(proxy.requests), len(near.requests)) == (2, 2)


def test_a_socks_proxy_that_would_be_needed_is_refused(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    OpenAIEndpoint(EndpointConfig("http://127.0.0.1:8000", "m"))
    with pytest.raises(InputError, match="socks5 proxy"):
        OpenAIEndpoint(EndpointConfig("https://api.example.org", "m"))
