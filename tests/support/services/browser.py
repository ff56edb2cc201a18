"""A real browser, and pages in it that are watched: what their console shows, and whom they ask."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = "needs a Chromium: apt-get install -y chromium"
MILLISECONDS = 20_000
"""Longest wait for anything on a page."""


@contextmanager
def browser():
    """A headless Chromium; skips the test where there is none."""
    if CHROMIUM is None:
        pytest.skip(MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Without its sandbox, because tests run as root in containers.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def watched_page(
    chromium: Any, address: str, *, width: int, is_foreign: Callable[[str], bool], **options: Any
) -> Iterator[tuple[Any, list[str]]]:
    """A page once it is ready, and its problems: what the console complains of, and requests to foreign addresses."""
    context = chromium.new_context(**{"viewport": {"width": width, "height": 900}, "color_scheme": "light", **options})
    page = context.new_page()
    page.set_default_timeout(MILLISECONDS)
    problems: list[str] = []
    page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: is_foreign(request.url) and problems.append(request.url))
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    yield page, problems
    context.close()
