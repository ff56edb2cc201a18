"""The page for everybody: keyboard, screen reader, contrast, a telephone."""

from __future__ import annotations

import pytest
from support.services.agent_page import ask, opened

pytestmark = pytest.mark.e2e


def test_the_keyboard_alone(chromium, url, agent):
    with opened(chromium, url) as page:
        keys = page.keyboard
        assert page.evaluate("document.activeElement.id") == "question"
        keys.type("slow ")
        keys.press("Shift+Enter")
        keys.type("two")
        keys.press("Enter")
        page.wait_for_selector(".turn.action .text")
        assert agent.asked[0]["question"] == "slow \ntwo"
        keys.press("Escape")
        page.wait_for_selector(".status.failed")
        keys.press("Control+a")
        keys.type("Who?")
        keys.press("Enter")
        page.wait_for_selector(".answer")
        seen = []
        for _ in range(14):
            keys.press("Tab")
            focused = "document.activeElement"
            seen.append(page.evaluate(f"({focused}.ariaLabel || {focused}.textContent).trim()"))
        order = ["Ask", "Link to this", "Prompt", "Eiffel Tower p1", "Eiffel Tower", "Good answer", "Bad answer"]
        places = [seen.index(name) for name in order]
        assert places == sorted(places), seen


def test_what_a_screen_reader_is_told(chromium, url):
    with opened(chromium, url) as page:
        page.evaluate(
            """() => {
              window.spoken = [];
              new MutationObserver(() => {
                const text = document.querySelector('.status')?.textContent;
                if (text && spoken.at(-1) !== text) spoken.push(text);
              }).observe(document.body, { childList: true, subtree: true, characterData: true });
            }"""
        )
        ask(page, "Who?")
        page.wait_for_selector(".answer")
        spoken = page.evaluate("spoken")
        assert spoken[-1].startswith("Answered “Maurice Koechlin” after 1 search")
        assert len(spoken) < 10, "phases, not words"
        assert page.locator(".status").get_attribute("aria-live") == "polite"
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll('button, input, select, textarea')]
              .filter(node => node.checkVisibility())
              .filter(node => !node.labels?.length && !node.ariaLabel && !node.textContent.trim())
              .map(node => node.outerHTML)"""
        )
        assert unnamed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_in_light_and_dark(chromium, url, scheme):
    """Contrast of 4.5 : 1 (WCAG AA) of every text with what lies behind it."""
    with opened(chromium, url, color_scheme=scheme) as page:
        ask(page, "Who?")
        page.wait_for_selector(".answer")
        page.locator(".passage summary").first.click()
        faint = page.evaluate(CONTRAST)
        assert faint == []
        background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert background == {"light": "rgb(246, 246, 243)", "dark": "rgb(18, 19, 22)"}[scheme]


CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const over = (color, below) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const each of [below, color]) { canvas.fillStyle = each; canvas.fillRect(0, 0, 1, 1); }
    return `rgb(${[...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)})`;
  };
  const behind = (node) => {
    const own = getComputedStyle(node).backgroundColor;
    return over(own, node.parentElement ? behind(node.parentElement) : 'white');
  };
  const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const light = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !node.checkVisibility() || node.closest(':disabled, script, style')) continue;
    const ground = behind(node);
    const [a, b] = [over(getComputedStyle(node).color, ground), ground].map(light).sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) faint.push([node.className, texts.currentNode.data.trim().slice(0, 30), contrast]);
  }
  return faint;
}"""


def test_it_fits_a_telephone(chromium, url):
    with opened(chromium, url, viewport={"width": 360, "height": 700}) as page:
        ask(page, "hostile")
        page.wait_for_selector(".answer")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
