"""What cannot break into the page: hostile texts and markup; and its token."""

from __future__ import annotations

import pytest
from support.services.agent_page import ask, opened, turns
from support.services.scripted_agent import ARABIC, HOSTILE

pytestmark = pytest.mark.e2e

TOKEN = "token-canary-0123456789"


def test_hostile_texts_stay_texts(chromium, url):
    with opened(chromium, url) as page:
        ask(page, "hostile")
        page.wait_for_selector(".answer")
        assert page.title() == "Ask · R1-Searcher"
        assert page.locator("img, iframe, object, script:not([type=module])").count() == 0
        assert page.locator(".passage .text").text_content() == HOSTILE
        assert page.locator(".answer .said").text_content() == HOSTILE
        assert turns(page) == ["prompt", "action", "documents", "feedback"]
        marked = page.locator(".query").evaluate_all(
            "nodes => nodes.map(node => [getComputedStyle(node).direction, getComputedStyle(node).unicodeBidi])"
        )
        assert marked == [["ltr", "isolate"], ["rtl", "isolate"]]
        assert page.locator(".query").nth(1).text_content() == ARABIC


def test_markup_that_got_in_would_not_run(chromium, url):
    """The headers, should the scripts have a hole."""
    with opened(chromium, url, expected="Content.Security.Policy|Trusted|trusted|:9/") as page:
        page.evaluate(
            """() => {
              try { document.body.innerHTML += '<img src=x onerror="document.title=1">'; } catch { /* not even that */ }
              const script = document.createElement('script');
              try { script.text = 'document.title = 2'; document.body.append(script); } catch { /* nor that */ }
              const style = document.createElement('style');
              style.textContent = 'body { display: none }';
              document.head.append(style);
            }"""
        )
        assert page.title() == "Ask · R1-Searcher" and page.locator("body").is_visible()
        blocked = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")
        assert blocked == "refused"


def test_a_token_is_asked_for_once(chromium, url, agent):
    agent.token = TOKEN
    with opened(chromium, url, expected="401") as page:
        page.get_by_label("This service asks for a token").fill("wrong")
        page.get_by_role("button", name="Use it").click()
        page.wait_for_selector("#notice:not([hidden])")
        page.get_by_label("This service asks for a token").fill(TOKEN)
        page.get_by_role("button", name="Use it").click()
        page.locator("#model option").nth(1).wait_for(state="attached")
        ask(page, "Who?")
        page.wait_for_selector(".answer")
        assert TOKEN not in page.content() and TOKEN not in page.url
