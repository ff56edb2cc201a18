"""Pages are read in processes of their own: whoever wrote a page may have written it against its readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from foundation.http import display_url
from foundation.sandbox import NoRoom, Sandbox, SandboxLimits, TaskFailed
from foundation.workers import cores
from retriever.errors import LimitReached, RetrieverBadResponse
from retriever.web.page_fetch import RawPage
from retriever.web.page_text import PageText, check_library, read_text

LIMITS = SandboxLimits(processes=max(2, min(4, cores())), seconds=10.0, memory_bytes=2 << 30)
"""4 MiB of paragraphs, the most that is fetched, take 3.5 s of a core and 0.4 GB of address space; as many bytes of
links take longer than the limit, and such a page counts as unreadable."""


async def read_page(page: RawPage, within_s: float) -> PageText:
    """The page's text.

    Raises:
        RetrieverBadResponse: it has none, or cannot be read within the limits of one page.
        LimitReached: no process was free within `within_s` seconds.
    """
    head = {"url": page.url, "content_type": page.content_type, "charset": page.charset}
    try:
        answer = await READERS.run(json.dumps(head).encode() + b"\n" + page.body, within_s)
    except TaskFailed as error:
        raise RetrieverBadResponse(f"{display_url(page.url)} cannot be read: {error}") from error
    except NoRoom as error:
        raise LimitReached(f"{display_url(page.url)} is not read: {error}") from error
    return PageText(**json.loads(answer))


def reader() -> Callable[[bytes], bytes]:
    """What a process does with a page, its libraries loaded."""
    check_library()
    read_text(RawPage("http://localhost/", "text/html", "", b"<html><body><p>A first page loads the rest.</p></body>"))
    return _read_packed


def _read_packed(task: bytes) -> bytes:
    """From a line of JSON and the body to JSON."""
    head, _, body = task.partition(b"\n")
    return json.dumps(asdict(read_text(RawPage(**json.loads(head), body=body)))).encode()


READERS = Sandbox(f"{__name__}:reader", LIMITS)
"""The processes that read pages."""
