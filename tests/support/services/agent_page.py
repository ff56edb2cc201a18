"""The page of the agents' service in a real browser: opened, asked, and read."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.services.browser import watched_page


@contextmanager
def opened(chromium, address: str, *, expected: str = "", **options) -> Iterator:
    """The page once it is ready. Fails on an error that the console shows, and on a request to anybody else."""
    origin = address.split("/", 3)[2]
    with watched_page(chromium, address, width=1280, is_foreign=lambda asked: origin not in asked, **options) as (
        page,
        problems,
    ):
        yield page
    assert [text for text in problems if not expected or not re.search(expected, text)] == []


def ask(page, question: str) -> None:
    page.get_by_label("Question", exact=True).fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()


def told(page, place: str, text: str) -> None:
    """Wait until a part of the page says exactly this."""
    page.locator(place).filter(has_text=re.compile(f"^{re.escape(text)}$")).wait_for()


def turns(page, place: int = 0) -> list[str]:
    """Kind of each turn."""
    found = page.locator(".episode").nth(place).locator(".turn")
    return [each.split()[-1] for each in found.evaluate_all("nodes => nodes.map(node => node.className)")]


def wait_until(condition, seconds: float = 60) -> None:
    """Ask again until it is so; what is waited for happens in the server's thread."""
    step = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        step.wait(0.02)
    raise AssertionError("it did not come to be so")
