"""A report in a real browser: opened as a user opens it, from a file, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.services.browser import browser, watched_page


@contextmanager
def opened(chromium, report: Path, address: str = "", **options) -> Iterator:
    """The report's page once it is ready; fails on a console error or a request for anything but files."""
    own = f"{report.as_uri()}{address}"
    with watched_page(chromium, own, width=1440, is_foreign=lambda asked: asked.startswith("http"), **options) as (
        page,
        problems,
    ):
        yield page
        page.wait_for_selector("html[data-texts-read]", state="attached")
    assert not problems


def check_report(report: Path, questions: int) -> None:
    """What every report of a finished quickstart shows."""
    with browser() as chromium, opened(chromium, report) as page:
        rows = page.locator("table.results tbody tr")
        assert rows.count() == 6, "three models, two decodings"
        assert set(rows.locator("td:nth-child(2)").all_inner_texts()) == {str(questions)}
        assert page.locator(".panels .chart path").count() > 20
        page.locator("nav a", has_text="Episodes").click()
        page.locator('[data-menu="run"]').select_option(label="stage2")
        page.locator(".row").first.click()
        page.wait_for_selector(".turn.action.trained .token")
        assert page.locator(".turn.prompt.untrained").count() == 1
