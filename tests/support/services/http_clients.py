"""`HttpRetriever`s for tests, with limits and retries in one list."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from foundation.http import HttpLimits
from foundation.retry import RetryPolicy
from retriever.client.http_retriever import HttpRetriever

_LIMITS, _RETRY = ({each.name for each in fields(kind)} for kind in (HttpLimits, RetryPolicy))


def http_retriever(url: str, **settings: Any) -> HttpRetriever:
    """A client; fields of `HttpLimits` and `RetryPolicy` may stand among its arguments."""
    limits = {name: value for name, value in settings.items() if name in _LIMITS}
    retry = {name: value for name, value in settings.items() if name in _RETRY}
    rest = {name: value for name, value in settings.items() if name not in _LIMITS | _RETRY}
    return HttpRetriever(url, limits=HttpLimits(**limits), retry=RetryPolicy(**retry), **rest)
