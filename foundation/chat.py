"""A language model behind an OpenAI-compatible server: bounded, typed, counted.

The one place that knows the library.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from foundation.errors import BadResponse, InputError, OutsideFailure, TimedOut, Unavailable
from foundation.http import describe, display_url, failure_of, is_base_url
from foundation.loops import PerLoop
from foundation.retry import Attempts, RetryPolicy

KEY_VARIABLE = "OPENAI_API_KEY"
MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Of one answer, streamed ones included."""

_NO_KEY = "none"
"""Without a key the library refuses to start; servers of one's own do not ask for one, and are sent none."""

T = TypeVar("T")
Request = Callable[[Any, str], Awaitable[T]]
"""One request, given the library's client and the model's name."""


@dataclass(frozen=True)
class EndpointConfig:
    """Where a model is served, and how long to wait for it."""

    url: str
    """Base address, such as `http://127.0.0.1:8000`; `/v1` is added where there is no path. Several equal servers,
    separated by commas, are asked in turn."""
    model: str = ""
    """Its name there; empty asks the server for its first one."""
    key_variable: str = KEY_VARIABLE
    """Environment variable that holds the key; keys are never arguments, and never logged."""
    timeout: float = 60.0
    """Seconds of one attempt."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        """Raise `InputError` for what cannot be an endpoint."""
        for url in self.url.split(","):
            if not is_base_url(url.strip()):
                raise InputError(f"an endpoint must look like http://host:port/v1, found {display_url(url)!r}")
        if self.timeout <= 0:
            raise InputError(f"the endpoint's timeout must be above 0 seconds, found {self.timeout:g}")

    @property
    def base_urls(self) -> tuple[str, ...]:
        """The addresses that the paths of the API are relative to."""
        urls = [url.strip().rstrip("/") for url in self.url.split(",")]
        return tuple(url if urlsplit(url).path else f"{url}/v1" for url in urls)

    @property
    def shown(self) -> str:
        """The addresses as they may stand in logs and records."""
        return ",".join(map(display_url, self.base_urls))


@dataclass(frozen=True)
class ChatReply:
    """One answered chat."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    attempts: int = 1
    """Requests that were sent."""


@dataclass(frozen=True)
class TextReply:
    """A streamed text completion."""

    text: str
    finish: str
    """`stop_string` where one of the stops ended it, else the endpoint's `finish_reason` (`stop`: EOS)."""


class OpenAIEndpoint:
    """A model behind the API. Usable from several event loops; call `close` in each."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self._model = config.model
        self._turn = itertools.cycle(range(len(config.base_urls)))
        self._clients = PerLoop(lambda: _clients(config))
        self._attempts = Attempts(config.retry)

    async def chat(self, messages: Sequence[Mapping[str, str]], **parameters: Any) -> ChatReply:
        """One chat completion, asked for as often as the retry policy allows. Raises OutsideFailure."""

        async def ask(failures: int, limit_s: float) -> ChatReply:
            return replace(await self.chat_once(messages, limit_s, **parameters), attempts=failures + 1)

        return await self._attempts.run(ask)

    async def chat_once(self, messages: Sequence[Mapping[str, str]], limit_s: float, **parameters: Any) -> ChatReply:
        """One chat completion by one request.

        Args:
            messages: the conversation.
            limit_s: seconds, within the configured time-out.
            parameters: such as `temperature`; they go along.

        Raises:
            OutsideFailure: down, slow, busy, garbage or refused.
        """

        async def ask(client: Any, model: str) -> Any:
            return await client.chat.completions.create(model=model, messages=list(messages), **parameters)

        reply = await self._once(ask, limit_s)
        try:
            text = reply.choices[0].message.content
        except (AttributeError, IndexError, TypeError):
            text = None
        if not isinstance(text, str):
            raise self._bad_response(reply, "a message with text")
        usage = getattr(reply, "usage", None)
        return ChatReply(text, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))

    async def complete(self, prompt: Sequence[int] | str, **parameters: Any) -> Any:
        """The one choice of a text completion, as the library gives it. Raises OutsideFailure."""

        async def ask(client: Any, model: str) -> Any:
            reply = await client.completions.create(model=model, prompt=prompt, **parameters)
            choices = getattr(reply, "choices", None)
            if not isinstance(choices, list) or not choices:
                raise self._bad_response(reply, "a choice")
            return choices[0]

        return await self._attempts.run(lambda _, limit_s: self._once(ask, limit_s))

    async def complete_until(self, prompt: str, stops: Sequence[str], **parameters: Any) -> TextReply:
        """A text completion up to and including the first of `stops`. Raises OutsideFailure.

        The text is read as it comes, and the request broken off at the stop: endpoints leave a stop string out of
        their text, and most do not say which one it was.
        """

        async def ask(client: Any, model: str) -> TextReply:
            stream = await client.completions.create(model=model, prompt=prompt, stream=True, **parameters)
            return await _read_until(stream, stops)

        return await self._attempts.run(lambda _, limit_s: self._once(ask, limit_s))

    async def check(self, limit_s: float) -> None:
        """Ask every server for its models. Raises OutsideFailure, that of the first, where none answers."""
        clients = self._clients.get()
        asked = [self._bounded(_models(client), _shown(client), limit_s) for client in clients]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        bugs = [failure for failure in failures if not isinstance(failure, OutsideFailure)]
        if bugs or len(failures) == len(answers):
            raise (bugs or failures)[0]

    async def check_listening(self) -> None:
        """Find out whether anybody listens, with one request that costs nothing.

        Raises:
            InputError: nobody does. Whatever is answered is an answer.
        """
        try:
            await self.check(self.config.timeout)
        except (Unavailable, TimedOut) as error:
            if error.status is None:
                raise InputError(
                    f"the endpoint {self.config.shown} does not answer ({error}); start it, or check the address"
                ) from error
        except OutsideFailure:
            return

    async def close(self) -> None:
        """Release the running event loop's connections."""
        for client in self._clients.pop() or ():
            await client.close()

    async def _once(self, request: Request[T], limit_s: float) -> T:
        """The answer to one request, by the server whose turn it is."""
        client = self._clients.get()[next(self._turn)]
        shown = _shown(client)

        async def ask() -> T:
            self._model = self._model or _first_name(await _models(client))
            return await request(client, self._model)

        return await self._bounded(ask(), shown, limit_s)

    async def _bounded(self, answer: Awaitable[T], shown: str, limit_s: float) -> T:
        seconds = min(limit_s, self.config.timeout)
        with _typed_failures(shown, seconds):
            async with asyncio.timeout(seconds):  # the library's own starts anew with every byte
                return await answer

    def _bad_response(self, reply: Any, expected: str) -> BadResponse:
        return BadResponse(f"{self.config.shown}: expected {expected}, found {str(reply)[:200]!r}")


def _clients(config: EndpointConfig) -> list[Any]:
    """The library's client of every server; they share their connections."""
    try:
        import openai
    except ImportError as error:
        raise ImportError("a model behind an API needs the openai library: pip install openai") from error

    key = os.environ.get(config.key_variable, "").strip()
    hooks: dict[str, list[Any]] = {"request": [_without_no_key], "response": [_bound_answer]}
    connections = openai.DefaultAsyncHttpxClient(timeout=config.timeout, event_hooks=hooks)
    return [
        openai.AsyncOpenAI(
            base_url=url,
            api_key=key or _NO_KEY,
            max_retries=0,  # own retries, so that they are bounded in time and counted
            default_headers={"Accept-Encoding": "identity"},  # answers are measured as they come
            http_client=connections,
        )
        for url in config.base_urls
    ]


async def _without_no_key(request: Any) -> None:
    if request.headers.get("authorization") == f"Bearer {_NO_KEY}":
        del request.headers["authorization"]


async def _bound_answer(response: Any) -> None:
    """Break an answer off that is larger than `MAX_ANSWER_BYTES`."""
    from httpx2 import AsyncByteStream

    shown, stream = display_url(str(response.url)), response.stream
    if response.headers.get("content-encoding", "identity") != "identity":
        raise BadResponse(f"{shown} compressed its answer although it was asked not to")

    class Bounded(AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for chunk in stream:
                size += len(chunk)
                if size > MAX_ANSWER_BYTES:
                    raise BadResponse(f"{shown} answered more than {MAX_ANSWER_BYTES} bytes")
                yield chunk

        async def aclose(self) -> None:
            await stream.aclose()

    response.stream = Bounded()


@contextmanager
def _typed_failures(shown: str, seconds: float) -> Iterator[None]:
    """Turns the library's errors into an `OutsideFailure` that names the address."""
    import openai

    try:
        yield
    except openai.APIStatusError as error:
        reason = " ".join(str(error.message).split())[:300]
        message = f"{shown}: status {error.status_code}: {reason}"
        raise failure_of(error.status_code, message, reason, error.response.headers) from error
    except (openai.APITimeoutError, TimeoutError) as error:
        raise TimedOut(f"{shown}: no answer within {seconds:.3g} s") from error
    except openai.APIConnectionError as error:
        raise Unavailable(f"{shown}: {describe(error.__cause__ or error)}") from error
    except openai.APIError as error:  # an error in the midst of a stream
        raise Unavailable(f"{shown}: {describe(error)}") from error
    except ValueError as error:  # a body that is not JSON
        raise BadResponse(f"{shown}: {error}") from error


async def _models(client: Any) -> list[Any]:
    """The models that a server has. Raises ValueError for an answer that is no list of them."""
    answer = await client.models.list()
    models = getattr(answer, "data", None)
    if not isinstance(models, list):
        raise ValueError(
            f"expected a list of models, found {str(answer)[:200]!r}; is this an OpenAI-compatible server?"
        )
    return models


def _first_name(models: list[Any]) -> str:
    name = getattr(models[0], "id", None) if models else None
    if not isinstance(name, str):
        raise ValueError(f"the server names no model (found {str(models)[:200]!r}); name one")
    return name


async def _read_until(stream: Any, stops: Sequence[str]) -> TextReply:
    """The text of a stream up to and including the first of `stops`."""
    text, finish = "", ""
    async with stream:
        async for chunk in stream:
            for choice in chunk.choices or ():
                text += choice.text or ""
                finish = choice.finish_reason or finish
            end = min((text.find(stop) + len(stop) for stop in stops if stop in text), default=0)
            if end:
                return TextReply(text[:end], "stop_string")
    if not finish:
        raise ValueError("the stream ended without a finish_reason")
    return TextReply(text, finish)


def _shown(client: Any) -> str:
    return display_url(str(client.base_url).rstrip("/"))


def _count(usage: Any, name: str) -> int:
    value = getattr(usage, name, 0)
    return value if isinstance(value, int) else 0
