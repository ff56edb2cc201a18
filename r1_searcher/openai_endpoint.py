"""Any OpenAI-compatible endpoint, with bounded retries and typed failures. The one place that knows the library."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from foundation.errors import InputError, R1SearcherError
from foundation.retry import RetryPolicy
from retriever.client.transport import display_url

_BUSY_STATUSES = frozenset({408, 409, 425, 429})


class Failure(str, Enum):
    """Why an endpoint gave no usable reply."""

    UNREACHABLE = "unreachable"
    """No connection, or one that broke off, at every attempt."""
    BUSY = "busy"
    """Too many requests (429), or failing (5xx), at every attempt."""
    TIMEOUT = "timeout"
    """No complete answer in time, at every attempt."""
    REJECTED = "rejected"
    """The request was refused as wrong (other 4xx); the same request would be refused again."""
    BAD_RESPONSE = "bad_response"
    """An answer without the field that was asked for."""


class EndpointError(R1SearcherError):
    """The endpoint gave nothing usable within its bounds."""

    def __init__(self, message: str, failure: Failure, attempts: int) -> None:
        super().__init__(message)
        self.failure = failure
        self.attempts = attempts
        """Requests that were sent."""


@dataclass(frozen=True)
class EndpointConfig:
    """Where a model is served, and how long to wait for it."""

    url: str
    """Base address, such as `http://127.0.0.1:8000`; `/v1` is added where there is no path."""
    model: str
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; keys are never arguments, and never logged."""
    timeout: float = 60.0
    """Seconds of one attempt."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"an endpoint must look like http://host:port, found {display_url(self.url)!r}")
        if self.timeout <= 0:
            raise InputError(f"the endpoint's timeout must be above 0 seconds, found {self.timeout:g}")

    @property
    def base_url(self) -> str:
        """The address that the paths of the API are relative to."""
        url = self.url.rstrip("/")
        return url if urlsplit(url).path else f"{url}/v1"

    @property
    def shown(self) -> str:
        """The address as it may stand in logs and records."""
        return display_url(self.base_url)


@dataclass(frozen=True)
class ChatReply:
    """One answered chat."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    attempts: int
    """Requests that were sent."""


@dataclass(frozen=True)
class TextReply:
    """A streamed text completion."""

    text: str
    finish: str
    """`stop_string` where one of the stops ended it, else the endpoint's `finish_reason` (`stop`: EOS)."""


class OpenAIEndpoint:
    """One model behind the API; use it within one event loop and close it there."""

    def __init__(self, config: EndpointConfig) -> None:
        import openai

        self.config = config
        self._openai = openai
        # Without a key the library refuses to start; servers of one's own do not ask for one.
        key = os.environ.get(config.key_variable) or "none"
        # Own retries, so that they are bounded in time and counted.
        self._client = openai.AsyncOpenAI(base_url=config.base_url, api_key=key, timeout=config.timeout, max_retries=0)
        self._random = random.Random()

    async def chat(self, messages: Sequence[Mapping[str, str]], **parameters: Any) -> ChatReply:
        """One chat completion. Raises `EndpointError`."""
        create: Any = self._client.chat.completions.create
        reply, attempts = await self._retried(
            lambda: create(model=self.config.model, messages=list(messages), **parameters)
        )
        try:
            text = reply.choices[0].message.content
        except (AttributeError, IndexError, TypeError):
            text = None
        if not isinstance(text, str):
            raise self._bad_response(reply, "a message with text", attempts)
        usage = getattr(reply, "usage", None)
        return ChatReply(text, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"), attempts)

    async def complete(self, prompt: Sequence[int] | str, **parameters: Any) -> Any:
        """The one choice of a text completion, as the library gives it. Raises `EndpointError`."""
        create: Any = self._client.completions.create
        reply, attempts = await self._retried(lambda: create(model=self.config.model, prompt=prompt, **parameters))
        choices = getattr(reply, "choices", None)
        if not isinstance(choices, list) or not choices:
            raise self._bad_response(reply, "a choice", attempts)
        return choices[0]

    async def complete_until(self, prompt: str, stops: Sequence[str], **parameters: Any) -> TextReply:
        """A text completion up to and including the first of `stops`. Raises `EndpointError`.

        The text is read as it comes, and the request broken off at the stop: endpoints leave a stop string out of
        their text, and most do not say which one it was.
        """
        return (await self._retried(lambda: self._stream(prompt, stops, parameters)))[0]

    async def _stream(self, prompt: str, stops: Sequence[str], parameters: Mapping[str, Any]) -> TextReply:
        text, finish = "", ""
        create: Any = self._client.completions.create
        stream = await create(model=self.config.model, prompt=prompt, stream=True, **parameters)
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

    async def check(self) -> None:
        """Find out whether anybody listens, with one request that costs nothing.

        Raises:
            InputError: nobody does. Whatever is answered is an answer.
        """
        try:
            await self._client.models.list()
        except self._openai.APIConnectionError as error:
            raise InputError(
                f"the endpoint {self.config.shown} does not answer ({_reason(error)}); start it, or check the address"
            ) from error
        except (self._openai.APIError, ValueError):
            return

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _retried(self, call: Callable[[], Awaitable[Any]]) -> tuple[Any, int]:
        """The answer, and the number of requests that it took."""
        retry = self.config.retry
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + retry.deadline
        attempt = 0
        while True:
            attempt += 1
            try:
                async with asyncio.timeout(self.config.timeout):  # the library's own starts anew with every byte
                    return await call(), attempt
            except self._openai.APIStatusError as error:
                failure, retry_after = _failure_of(error.status_code), _seconds(error.response.headers)
                reason = f"status {error.status_code}: {' '.join(str(error.message).split())[:300]}"
            except (self._openai.APITimeoutError, TimeoutError):
                failure, retry_after, reason = Failure.TIMEOUT, None, f"no answer within {self.config.timeout:g} s"
            except self._openai.APIConnectionError as error:
                failure, retry_after, reason = Failure.UNREACHABLE, None, _reason(error)
            except self._openai.APIError as error:  # an error in the midst of a stream
                failure, retry_after, reason = Failure.BUSY, None, _reason(error)
            except ValueError as error:  # a body that is not JSON
                failure, retry_after, reason = Failure.BAD_RESPONSE, None, str(error)
            wait = retry.wait(attempt, retry_after, self._random.random())
            lasting = failure in (Failure.REJECTED, Failure.BAD_RESPONSE)
            if lasting or attempt >= retry.attempts or loop.time() + wait >= give_up_at:
                tries = f"{attempt} attempt{'s' if attempt > 1 else ''}"
                raise EndpointError(f"{self.config.shown}: {reason} (gave up after {tries})", failure, attempt)
            await asyncio.sleep(wait)

    def _bad_response(self, reply: Any, expected: str, attempts: int) -> EndpointError:
        message = f"{self.config.shown}: expected {expected}, found {str(reply)[:200]!r}"
        return EndpointError(message, Failure.BAD_RESPONSE, attempts)


def _failure_of(status: int) -> Failure:
    return Failure.BUSY if status >= 500 or status in _BUSY_STATUSES else Failure.REJECTED


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__


def _seconds(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    return float(value) if value.isdecimal() else None


def _count(usage: Any, name: str) -> int:
    value = getattr(usage, name, 0)
    return value if isinstance(value, int) else 0
