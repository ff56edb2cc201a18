"""The HTTP connections of everything that talks to the web."""

from __future__ import annotations

import os
from collections.abc import Mapping

from retriever.client.transport import AiohttpTransport

USER_AGENT_VARIABLE = "RETRIEVER_USER_AGENT"
"""Environment variable with the name to give; operators such as Wikimedia ask for one with a contact in it."""
USER_AGENT = "r1-searcher-retriever/0.1"
CONNECT_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 512


def web_transport(*, read_timeout: float, max_bytes: int, headers: Mapping[str, str] | None = None) -> AiohttpTransport:
    """A transport that says who asks. `read_timeout` in seconds; see `AiohttpTransport`."""
    agent = os.environ.get(USER_AGENT_VARIABLE, "").strip() or USER_AGENT
    return AiohttpTransport(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=read_timeout,
        max_connections=MAX_CONNECTIONS,
        max_response_bytes=max_bytes,
        headers={"User-Agent": agent, **(headers or {})},
    )
