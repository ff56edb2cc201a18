"""The openai library's clients: whose key, through which proxy, how large an answer, and what its errors mean."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from foundation.errors import BadResponse, TimedOut, Unavailable
from foundation.http import describe, display_url, failure_of, message_of, printable, trusted_certificates
from foundation.proxies import proxy_for
from foundation.secrets import with_credentials

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Of one answer, streamed ones included."""

_NO_KEY = "none"
"""Without a key the library refuses to start; servers of one's own do not ask for one, and are sent none."""


class Connections:
    """How some equal servers are reached."""

    def __init__(self, servers: Sequence[tuple[str, str]], timeout: float) -> None:
        """Look the proxies up; nothing is opened yet.

        Args:
            servers: base addresses, each with the environment variable that holds its key; empty for none.
            timeout: seconds of an attempt.

        Raises:
            InputError: the environment names a proxy that cannot be used.
        """
        self._servers, self._timeout = tuple(servers), timeout
        self._proxies = {url: proxy for url, _ in servers if (proxy := proxy_for(url))}

    def open(self) -> list[Any]:
        """The library's client of every server; they share their connections."""
        try:
            import openai
        except ImportError as error:
            raise ImportError("a model behind an API needs the openai library: pip install openai") from error
        from httpx2 import AsyncHTTPTransport, Limits

        # The limits are the library's own.
        limits, trusted = Limits(max_connections=1000, max_keepalive_connections=100), trusted_certificates()
        hooks: dict[str, list[Any]] = {"request": [_without_no_key], "response": [_bound_answer]}
        connections = openai.DefaultAsyncHttpxClient(
            timeout=self._timeout,
            event_hooks=hooks,
            # A transport of one's own: else the environment's proxies are taken for 127.0.0.1 too.
            transport=AsyncHTTPTransport(verify=trusted, limits=limits),
            mounts={
                _origin(url): AsyncHTTPTransport(verify=trusted, limits=limits, proxy=proxy)
                for url, proxy in self._proxies.items()
            },
        )
        return [
            openai.AsyncOpenAI(
                base_url=with_credentials(url),
                api_key=os.environ.get(name, "").strip() or _NO_KEY,
                max_retries=0,  # own retries, so that they are bounded in time and counted
                default_headers={"Accept-Encoding": "identity"},  # answers are measured as they come
                http_client=connections,
            )
            for url, name in self._servers
        ]


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


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
def typed_failures(shown: str, seconds: float) -> Iterator[None]:
    """Turns the library's errors into an `OutsideFailure` that names the address."""
    import openai

    try:
        yield
    except openai.APIStatusError as error:
        # "from None", here and below: a server may quote the key, and a traceback would show its words.
        reason = printable(message_of(error.body) or str(error.message))[:300]
        message = f"{shown}: status {error.status_code}: {reason}"
        raise failure_of(error.status_code, message, reason, error.response.headers) from None
    except (openai.APITimeoutError, TimeoutError):
        raise TimedOut(f"{shown}: no answer within {seconds:.3g} s") from None
    except openai.APIConnectionError as error:
        raise Unavailable(f"{shown}: {describe(error.__cause__ or error)}") from None
    except openai.APIError as error:  # an error in the midst of a stream
        raise Unavailable(f"{shown}: {describe(error)}") from None
    except ValueError as error:  # a body that is not JSON
        raise BadResponse(f"{shown}: {printable(str(error))}") from None
