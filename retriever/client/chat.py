"""One chat completion of any OpenAI-compatible server, for engines that a language model plays.

It goes through the same transport as searches do, so that it has the same bounds and errors: size of the answer,
time-outs, Retry-After, typed failures, connections per event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from retriever.client.replies import checked
from retriever.client.transport import Transport, display_url
from retriever.client.web_transport import web_transport
from retriever.errors import RetrieverBadResponse, RetrieverError
from retriever.wire import bodies as wire

MAX_ANSWER_BYTES = 4 * 1024 * 1024
KEY_VARIABLE = "OPENAI_API_KEY"


class ChatEndpoint:
    """A model behind the API, on one server or on several equal ones, which are asked in turn."""

    def __init__(
        self,
        urls: str,
        *,
        model: str = "",
        key_variable: str = KEY_VARIABLE,
        read_timeout: float = 60.0,
        transport: Transport | None = None,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            urls: base addresses, separated by commas; `/v1` is added where there is no path.
            model: its name there; empty asks the server for its first one.
            key_variable: environment variable of the key; where it is not set, none is sent.
            read_timeout: seconds of one attempt.
            transport: replaces the HTTP library; then the key and the time-out are unused.

        Raises:
            ValueError: not an http(s) address.
        """
        self._bases = [_base(url) for url in urls.split(",")]
        self._turn = itertools.cycle(self._bases)
        self._model = model
        key = os.environ.get(key_variable, "").strip()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._transport = transport or web_transport(
            read_timeout=read_timeout, max_bytes=MAX_ANSWER_BYTES, headers=headers
        )

    @property
    def shown(self) -> str:
        """The addresses as they may stand in logs."""
        return ",".join(map(display_url, self._bases))

    async def chat(self, messages: Sequence[Mapping[str, str]], limit_s: float, **parameters: object) -> str:
        """The answer to a conversation, by one request; `parameters` such as `temperature` go along.

        Raises:
            RetrieverError: down, slow, busy, garbage or refused.
        """
        base = next(self._turn)
        body = {"model": await self._model_of(base, limit_s), "messages": list(messages), **parameters}
        answer = await self._send("POST", f"{base}/chat/completions", wire.dump(body), limit_s)
        try:
            message = wire.as_object(wire.as_object(wire.as_list(answer.get("choices"), "of choices")[0])["message"])
            text = message["content"]
        except (wire.WireError, IndexError, KeyError):
            text = None
        if not isinstance(text, str):
            raise RetrieverBadResponse(f"{display_url(base)}: expected a message with text, got {wire.show(answer)}")
        return text

    async def check(self, limit_s: float) -> None:
        """Find out whether any of the servers answers. Raises RetrieverError, that of the first, where none does."""
        asked = [self._send("GET", f"{base}/models", None, limit_s) for base in self._bases]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        bugs = [failure for failure in failures if not isinstance(failure, RetrieverError)]
        if bugs or len(failures) == len(answers):
            raise (bugs or failures)[0]

    async def close(self) -> None:
        """Release the running event loop's connections."""
        await self._transport.close()

    async def _model_of(self, base: str, limit_s: float) -> str:
        if not self._model:
            answer = await self._send("GET", f"{base}/models", None, limit_s)
            try:
                name = wire.as_object(wire.as_list(answer.get("data"), "of models")[0]).get("id")
            except (wire.WireError, IndexError):
                name = None
            if not isinstance(name, str):
                raise RetrieverBadResponse(f"{display_url(base)} names no model ({wire.show(answer)}); name one")
            self._model = name
        return self._model

    async def _send(self, method: str, url: str, body: bytes | None, limit_s: float) -> Mapping[str, object]:
        reply = await self._transport.send(method, url, body, limit_s)
        try:
            return wire.as_object(wire.load(checked(reply, display_url(url))))
        except wire.WireError as error:
            raise RetrieverBadResponse(f"{display_url(url)}: {error}; is this an OpenAI-compatible server?") from error


def _base(url: str) -> str:
    url = url.strip().rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ValueError(f"an endpoint must look like http://host:port/v1, got {display_url(url)!r}")
    return url if parts.path else f"{url}/v1"
