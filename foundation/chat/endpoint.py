"""A language model behind an OpenAI-compatible server: bounded, typed, counted.

With `foundation.chat.clients` the one place that knows the library.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from foundation.chat.clients import Connections, typed_failures
from foundation.chat.replies import message_text, refused_parameter, why_nothing
from foundation.errors import BadResponse, InputError, OutsideFailure, Rejected, TimedOut, Unavailable
from foundation.http import display_url, failure_of, is_base_url
from foundation.loops import PerLoop
from foundation.retry import Attempts, RetryPolicy
from foundation.secrets import check_may_carry_key

logger = logging.getLogger(__name__)

_OWN_KEYS = {"api.openai.com": "OPENAI_API_KEY"}
"""Host to the variable with the key that belongs to it; any other host is sent the key that the user names for it."""

_OTHER_NAMES = {"max_tokens": "max_completion_tokens"}
"""Parameters that newer models take under another name; every other one can only be left out."""

T = TypeVar("T")
Request = Callable[[Any, str, Mapping[str, Any]], Awaitable[T]]
"""One request, given the library's client, the model's name and the parameters that the server takes."""


@dataclass(frozen=True)
class EndpointConfig:
    """Where a model is served, and how long to wait for it."""

    url: str
    """Base address, such as `http://127.0.0.1:8000`; `/v1` is added where there is no path, and the path of a request
    (`/v1/chat/completions`) is left out. Several equal servers, separated by commas, are asked in turn."""
    model: str = ""
    """Its name there; empty asks the server for its first one."""
    key_variable: str = ""
    """Environment variable that holds the key; keys are never arguments, and never logged. Empty: `OPENAI_API_KEY`
    for api.openai.com, and no key for any other host."""
    timeout: float = 60.0
    """Seconds of one attempt."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        """Raise `InputError` for what cannot be an endpoint."""
        for url in self.url.split(","):
            if not is_base_url(url.strip()):
                raise InputError(f"an endpoint must look like http://host:port/v1, found {display_url(url)!r}")
        for url in self.base_urls:
            name = self.key_name(url)
            try:
                if name and os.environ.get(name, "").strip():
                    check_may_carry_key(url, name)
            except ValueError as error:
                raise InputError(str(error)) from error
        if self.timeout <= 0:
            raise InputError(f"the endpoint's timeout must be above 0 seconds, found {self.timeout:g}")

    @property
    def base_urls(self) -> tuple[str, ...]:
        """The addresses that the paths of the API are relative to."""
        urls = [url.strip().rstrip("/") for url in self.url.split(",")]
        based = (url if urlsplit(url).path else f"{url}/v1" for url in urls)
        return tuple(url.removesuffix("/completions").removesuffix("/chat") for url in based)

    def key_name(self, url: str) -> str:
        """The environment variable with the key for one of the addresses; empty where it is sent none."""
        return self.key_variable or _OWN_KEYS.get(urlsplit(url).hostname or "", "")

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
    """A model behind the API. Usable from several event loops; call `close` in each.

    A parameter that the server refuses by name (some take no `seed`, reasoning models no `temperature` and
    `max_completion_tokens` in place of `max_tokens`) is logged once, and then left out.
    """

    def __init__(self, config: EndpointConfig) -> None:
        """Nothing is sent yet. Raises `InputError` for a proxy in the environment that cannot be used."""
        self.config = config
        self._model = config.model
        self._turn = itertools.cycle(range(len(config.base_urls)))
        connections = Connections([(url, config.key_name(url)) for url in config.base_urls], config.timeout)
        self._clients = PerLoop(connections.open)
        self._attempts = Attempts(config.retry)
        self.under_way = 0
        """Requests that are not answered yet."""
        self._refused: dict[str, str] = {}
        """Parameters that the server does not take, and under which name it does (empty: none)."""

    async def chat(self, messages: Sequence[Mapping[str, str]], **parameters: Any) -> ChatReply:
        """One chat completion, asked for as often as the retry policy allows. Raises OutsideFailure."""

        async def ask(failures: int, limit_s: float) -> ChatReply:
            reply = await self.chat_once(messages, limit_s, **parameters)
            return replace(reply, attempts=failures + reply.attempts)

        return await self._attempts.run(ask)

    async def chat_once(self, messages: Sequence[Mapping[str, str]], limit_s: float, **parameters: Any) -> ChatReply:
        """One chat completion by one request, and one more for each parameter that the server refuses.

        Args:
            messages: the conversation.
            limit_s: seconds of a request, within the configured time-out.
            parameters: such as `temperature`; they go along.

        Raises:
            OutsideFailure: down, slow, busy, garbage or refused.
        """

        async def ask(client: Any, model: str, taken: Mapping[str, Any]) -> Any:
            return await client.chat.completions.create(model=model, messages=list(messages), **taken)

        reply, requests = await self._adapted(ask, limit_s, parameters, parameters)
        text = message_text(reply)
        if text is None:
            raise self._bad_response(reply, "a message with text")
        usage = getattr(reply, "usage", None)
        return ChatReply(text, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"), requests)

    async def complete(self, prompt: Sequence[int] | str, **parameters: Any) -> Any:
        """The one choice of a text completion, as the library gives it. Raises OutsideFailure.

        Of the parameters only a seed is left out where it is refused: the others decide what is sampled.
        """

        async def ask(client: Any, model: str, taken: Mapping[str, Any]) -> Any:
            reply = await client.completions.create(model=model, prompt=prompt, **taken)
            choices = getattr(reply, "choices", None)
            if not isinstance(choices, list) or not choices:
                raise self._bad_response(reply, "a choice")
            return choices[0]

        return await self._attempts.run(lambda _, limit_s: self._completed(ask, limit_s, parameters))

    async def stream(self, prompt: Sequence[int] | str, told: Callable[[Any], None], **parameters: Any) -> None:
        """A text completion piece by piece: `told` is given each choice as the library gives it. Raises OutsideFailure.

        It is asked for again, as `complete` does, until the first piece; a stream that breaks off later has failed.
        """
        begun = False

        async def ask(client: Any, model: str, taken: Mapping[str, Any]) -> None:
            nonlocal begun
            stream = await client.completions.create(model=model, prompt=prompt, stream=True, **taken)
            async with stream:
                async for chunk in stream:
                    for choice in chunk.choices or ():
                        begun = True
                        told(choice)

        async def attempt(failures: int, limit_s: float) -> None:
            try:
                await self._completed(ask, limit_s, parameters)
            except OutsideFailure as error:
                if begun:
                    raise BadResponse(f"{error} (in the midst of an answer)") from error
                raise

        await self._attempts.run(attempt)

    async def complete_until(self, prompt: str, stops: Sequence[str], **parameters: Any) -> TextReply:
        """A text completion up to and including the first of `stops`. Raises OutsideFailure.

        The text is read as it comes, and the request broken off at the stop: endpoints leave a stop string out of
        their text, and most do not say which one it was.
        """

        async def ask(client: Any, model: str, taken: Mapping[str, Any]) -> TextReply:
            stream = await client.completions.create(model=model, prompt=prompt, stream=True, **taken)
            return await _read_until(stream, stops)

        return await self._attempts.run(lambda _, limit_s: self._completed(ask, limit_s, parameters))

    async def check(self, limit_s: float) -> None:
        """Ask every server for its models. Raises OutsideFailure, that of the first, where none answers.

        A server without such a list is an answer where the model is named.
        """

        async def ask(client: Any) -> None:
            try:
                await self._bounded(_models(client), _shown(client), limit_s)
            except Rejected as error:
                if error.status not in (404, 405) or not self.config.model:
                    raise

        answers = await asyncio.gather(*map(ask, self._clients.get()), return_exceptions=True)
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

    async def _completed(self, request: Request[T], limit_s: float, parameters: Mapping[str, Any]) -> T:
        return (await self._adapted(request, limit_s, parameters, ("seed",)))[0]

    async def _adapted(
        self, request: Request[T], limit_s: float, parameters: Mapping[str, Any], optional: Iterable[str]
    ) -> tuple[T, int]:
        """The answer to a request without the optional parameters that the server refuses; requests sent."""
        sent = 1
        while True:
            taken = self._taken(parameters, optional)
            try:
                return await self._once(request, limit_s, taken), sent
            except Rejected as error:
                name = refused_parameter(error, taken)
                known = {self._refused.get(each) or each: each for each in optional}
                if name not in known:
                    raise
                self._leave_out(known[name], error, renamed=name != known[name])
                sent += 1

    def _taken(self, parameters: Mapping[str, Any], optional: Iterable[str]) -> dict[str, Any]:
        """The parameters by the names under which the server takes them."""
        names = {name: self._refused.get(name, name) if name in optional else name for name in parameters}
        return {names[name]: value for name, value in parameters.items() if names[name]}

    def _leave_out(self, name: str, error: Rejected, *, renamed: bool) -> None:
        other = "" if renamed else _OTHER_NAMES.get(name, "")
        if self._refused.get(name) == other:
            return  # another request has met the same refusal
        self._refused[name] = other
        instead = f"{other} is sent in its place" if other else "it is left out from now on"
        logger.warning("%s takes no %s (%s); %s", self.config.shown, name, error.reason or error, instead)

    async def _once(self, request: Request[T], limit_s: float, parameters: Mapping[str, Any]) -> T:
        """The answer to one request, by the server whose turn it is."""
        client = self._clients.get()[next(self._turn)]
        shown = _shown(client)

        async def ask() -> T:
            self._model = self._model or _first_name(await _models(client))
            return await request(client, self._model, parameters)

        self.under_way += 1
        try:
            return await self._bounded(ask(), shown, limit_s)
        finally:
            self.under_way -= 1

    async def _bounded(self, answer: Awaitable[T], shown: str, limit_s: float) -> T:
        seconds = min(limit_s, self.config.timeout)
        with typed_failures(shown, seconds):
            async with asyncio.timeout(seconds):  # the library's own starts anew with every byte
                return await answer

    def _bad_response(self, reply: Any, expected: str) -> OutsideFailure:
        reason, status = why_nothing(reply)
        if status is not None:
            return failure_of(status, f"{self.config.shown}: status {status}: {reason}", reason, {})
        return BadResponse(f"{self.config.shown}: expected {expected}, found {reason}")


async def _models(client: Any) -> list[Any]:
    """The models that a server has. Raises ValueError for an answer that is no list of them."""
    try:
        answer: Any = await client.models.list()
    except AttributeError:  # of the library, where the answer is a text, such as a web page
        answer = "what is no JSON"
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
