"""The page as a document, without a browser; in one it is opened by `test_page_browser.py`."""

from __future__ import annotations

import re
from pathlib import Path

from r1_searcher.agent_service.html_page import html_page


def test_the_page_is_one_document_that_names_no_other():
    page = html_page()
    html = page.body.decode()
    assert "{{" not in html and not re.findall(r"""(?:src|href)=["'](?!data:)[^"']+""", html)
    assert "innerHTML" not in html and "insertAdjacentHTML" not in html and "document.write" not in html
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy


def test_who_wrote_what_has_the_reports_colours():
    assets = Path(__file__).resolve().parents[3] / "eval/report/assets/base.css"
    report, page = assets.read_text(encoding="utf-8"), html_page().body.decode()
    for kind in ("prompt", "action", "documents", "feedback"):
        for name in (f"--{kind}:", f"--{kind}-soft:"):
            told = [set(re.findall(rf"{name} (#\w+)", text)) for text in (report, page)]
            assert told[0] == told[1] and len(told[0]) == 2, name
