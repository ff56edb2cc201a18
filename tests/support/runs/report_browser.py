"""A report in a real browser: opened as a user opens it, from a file, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
def opened(chromium, report: Path, address: str = "", **options) -> Iterator:
    """The report's page once it is ready; fails on a console error or a request for anything but files."""
    context = chromium.new_context(**{"viewport": {"width": 1440, "height": 900}, "color_scheme": "light", **options})
    page = context.new_page()
    page.set_default_timeout(MILLISECONDS)
    problems: list[str] = []
    page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: request.url.startswith("http") and problems.append(request.url))
    page.goto(f"{report.as_uri()}{address}")
    page.wait_for_selector("html[data-ready]")
    yield page
    page.wait_for_selector("html[data-texts-read]", state="attached")
    context.close()
    assert not problems


def check_report(report: Path, questions: int) -> None:
    """What every report of a finished quickstart shows."""
    with browser() as chromium, opened(chromium, report) as page:
        rows = page.locator("table.results tbody tr")
        assert rows.count() == 6, "three models, two decodings"
        assert set(rows.locator("td:nth-child(2)").all_inner_texts()) == {str(questions)}
        assert page.locator(".panels .chart path").count() > 20
        page.locator("nav a", has_text="Episodes").click()
        page.locator('[data-menu="source"]').select_option(label="stage2")
        page.locator(".row").first.click()
        page.wait_for_selector(".turn.action.trained .token")
        assert page.locator(".turn.prompt.untrained").count() == 1
