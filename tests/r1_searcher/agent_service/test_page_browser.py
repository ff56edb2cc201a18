"""The page in a real browser, before a scripted service: what is seen, spoken, linked, and what cannot break in."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from support.episodes.asked_agents import FakePolicies, agent_of
from support.episodes.fakes import say
from support.runs.report_browser import MILLISECONDS, browser
from support.services.asgi_servers import serve_asgi
from support.services.scripted_agent import ARABIC, EPISODE, HOSTILE, ScriptedAgent

from r1_searcher.agent_service.app import create_app
from r1_searcher.agent_service.service import AgentService
from r1_searcher.agent_service.store import EpisodeStore

pytestmark = pytest.mark.e2e

TOKEN = "token-canary-0123456789"


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture
def agent() -> ScriptedAgent:
    return ScriptedAgent()


@pytest.fixture
def url(agent) -> Iterator[str]:
    with serve_asgi(agent.app()) as address:
        yield address


@contextmanager
def opened(chromium, address: str, *, expected: str = "", **options) -> Iterator:
    """The page once it is ready. Fails on an error that the console shows, and on a request to anybody else."""
    context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, "color_scheme": "light", **options})
    page = context.new_page()
    page.set_default_timeout(MILLISECONDS)
    problems: list[str] = []
    page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    origin = address.split("/", 3)[2]
    page.on("request", lambda request: origin in request.url or problems.append(request.url))
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    yield page
    context.close()
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


def test_an_episode_grows_and_its_documents_open(chromium, url):
    with opened(chromium, url) as page:
        ask(page, "Who drew the tower?")
        page.wait_for_selector(".answer")
        assert page.locator("#shown-question").inner_text() == "Who drew the tower?"
        assert turns(page) == ["prompt", "action", "documents", "feedback", "action"]
        assert page.locator(".turn.action .text").first.inner_text().startswith("<think> I should look.")
        assert page.locator(".turn.action .tag").all_inner_texts()[:3] == ["<think>", "<search>", "</search>"]
        passage = page.locator(".passage").first
        assert not passage.locator(".text").is_visible()
        passage.locator("summary").click()
        assert passage.locator(".text").inner_text() == "Maurice Koechlin drew the tower in 1884."
        assert page.locator(".answer .said").inner_text() == "Maurice Koechlin"
        assert page.locator(".sources button").all_inner_texts() == ["Eiffel Tower"], "it holds the answer"
        assert page.locator(".status").inner_text() == "Answered “Maurice Koechlin” after 1 search, 1.5 s"


def test_a_source_leads_to_its_passage(chromium, url):
    with opened(chromium, url) as page:
        ask(page, "Who?")
        page.locator(".sources button").click()
        assert page.locator(".passage[open].pointed .text").is_visible()
        assert page.evaluate("document.activeElement.closest('.passage') !== null")


def test_what_is_sent(chromium, url, agent):
    with opened(chromium, url) as page:
        page.get_by_label("Temperature").fill("0.5")
        ask(page, "  Who?  ")
        page.wait_for_selector(".answer")
    assert agent.asked == [{"question": "Who?", "model": "trained", "temperature": 0.5}]


def test_two_models_side_by_side(chromium, url, agent):
    with opened(chromium, url) as page:
        page.get_by_label("Beside it").select_option("base")
        ask(page, "Who?")
        page.wait_for_selector(".episode:nth-child(2) .answer")
        page.wait_for_selector(".episode:nth-child(1) .answer")
        assert page.locator(".answer .said").all_inner_texts() == ["Maurice Koechlin", "base says so"]
        assert page.locator(".episode h3").all_inner_texts() == ["trained", "base"]
        left, right = (page.locator(".episode").nth(place).bounding_box() for place in (0, 1))
        assert left["y"] == right["y"] and left["x"] + left["width"] <= right["x"]
        address = page.locator("#permalink").get_attribute("href")
    assert sorted(each["model"] for each in agent.asked) == ["base", "trained"]
    with opened(chromium, f"{url}/{address}") as page:
        page.wait_for_selector(".episode:nth-child(2) .answer")
        assert sorted(page.locator(".answer .said").all_inner_texts()) == ["Maurice Koechlin", "base says so"]


@pytest.mark.parametrize("address", ["/#episode={}", "/?episode={}"])
def test_a_link_replays_a_stored_episode(chromium, url, agent, address):
    end = {**EPISODE[-1], "id": "x/1", "model": "trained"}
    events = [*EPISODE[:-1], end]
    agent.stored["x1"] = {"id": "x1", "question": "Who?", "model": "trained", "created": 0, "events": events}
    with opened(chromium, url + address.format("x1")) as page:
        page.wait_for_selector(".answer")
        assert turns(page) == ["prompt", "action", "documents", "feedback", "action"]
        assert page.locator("#shown-question").inner_text() == "Who?" and agent.asked == []


def test_links_of_asked_questions_and_one_that_leads_nowhere(chromium, url):
    with opened(chromium, url, expected="404") as page:
        for question in ("First?", "Second?"):
            ask(page, question)
            page.get_by_role("link", name=question).wait_for()
        page.get_by_role("link", name="First?").click()
        told(page, "#shown-question", "First?")
        page.goto(f"{url}/#episode=nobody")
        page.wait_for_selector("#notice:not([hidden])")
        assert page.locator("#notice").inner_text() == "This episode cannot be shown: no such episode"


def test_a_slow_engine_shows_what_it_has_and_can_be_stopped(chromium, url, agent):
    with opened(chromium, url) as page:
        ask(page, "slow one")
        page.wait_for_selector(".turn.action .text")
        assert page.locator(".turn.action .text").inner_text().strip() == "<think> I should"
        assert page.locator(".status").inner_text() == "Thinking …"
        assert page.locator(".episode").get_attribute("aria-busy") == "true"
        assert page.get_by_role("button", name="Ask", exact=True).is_disabled()
        page.get_by_role("button", name="Stop").click()
        told(page, ".status", "Stopped.")
        assert page.get_by_role("button", name="Ask", exact=True).is_enabled()
        wait_until(lambda: agent.open_streams == 0)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("dying retriever", "The search service failed: cannot connect to http://x"),
        ("cut off", "The connection ended before the episode did."),
        ("too many", "all places are taken; try again later"),
        ("no answer", "No answer (length) after 0 searches"),
    ],
)
def test_failures_are_said(chromium, url, question, said):
    with opened(chromium, url, expected="503") as page:
        ask(page, question)
        page.wait_for_selector(".status.failed")
        page.wait_for_selector(".episode[aria-busy=false]")
        assert page.locator(".status").inner_text().startswith(said)
        assert (turns(page)[:2] == ["prompt", "action"]) is (question != "too many"), "what was written stays"
        assert page.get_by_role("button", name="Ask", exact=True).is_enabled()


def test_a_service_that_dies_in_the_middle(chromium, agent):
    with serve_asgi(agent.app()) as url:
        stack = opened(chromium, url, expected="ERR_|Failed to load")
        page = stack.__enter__()
        ask(page, "slow one")
        page.wait_for_selector(".turn.action .text")
    page.wait_for_selector(".status.failed")
    assert "broke off" in page.locator(".status").inner_text() or "ended before" in page.locator(".status").inner_text()
    ask(page, "again")
    page.wait_for_selector(".status.failed")
    told(page, ".status", "The service cannot be reached. Is it running?")
    stack.__exit__(None, None, None)


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


def test_thumbs_write_a_rating(chromium, url, agent):
    with opened(chromium, url) as page:
        ask(page, "Who?")
        page.get_by_role("button", name="Bad answer").click()
        page.wait_for_selector(".rating [aria-pressed=true]")
        page.get_by_label("Why (optional)").fill("wrong man")
        page.get_by_role("button", name="Send").click()
        page.locator(".rating form").wait_for(state="hidden")
    assert agent.ratings == [{"id": "e1", "thumb": "down"}, {"id": "e1", "thumb": "down", "comment": "wrong man"}]


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


def test_fifty_viewers_beside_a_browser(chromium, url, agent):

    def watch(number: int) -> list[str]:
        body = json.dumps({"question": f"slow {number}", "model": None}).encode()
        request = urllib.request.Request(f"{url}/episodes", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return [json.loads(line[5:])["type"] for line in answer if line.startswith(b"data:")]

    with ThreadPoolExecutor(50) as pool, opened(chromium, url) as page:
        watching = [pool.submit(watch, number) for number in range(50)]
        ask(page, "slow too")
        page.wait_for_selector(".turn.action .text")
        wait_until(lambda: agent.open_streams == 51)
        agent.released = True
        page.wait_for_selector(".answer")
        assert {tuple(each.result()) for each in watching} == {tuple(event["type"] for event in EPISODE)}
    assert agent.most_streams == 51 and agent.open_streams == 0


def wait_until(condition, seconds: float = 60) -> None:
    """Ask again until it is so; what is waited for happens in the server's thread."""
    step = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        step.wait(0.02)
    raise AssertionError("it did not come to be so")


# --- the real service, whose models and search are scripted


@pytest.fixture
def service(tmp_path) -> Iterator[str]:
    models = {"trained": agent_of(FakePolicies()), "base": agent_of(FakePolicies((say("London", "I know. "),)))}
    store = EpisodeStore(tmp_path / "store", keep=9)
    with closing(store), serve_asgi(create_app(AgentService(models, store))) as address:
        yield address


def test_the_service_plays_and_keeps_what_the_page_shows(chromium, service, tmp_path):
    with opened(chromium, service) as page:
        page.get_by_label("Beside it").select_option("base")
        ask(page, "Where is the tower?")
        for place in (1, 2):
            page.locator(f".episode:nth-child({place}) .answer").wait_for()
        assert page.locator(".answer .said").all_inner_texts() == ["Paris", "London"]
        assert turns(page) == ["prompt", "action", "documents", "action"]
        assert page.locator(".query").all_inner_texts() == ["tower"]
        assert page.locator(".passage").count() == 2
        address = page.locator("#permalink").get_attribute("href")
        shown = page.locator("#episodes").inner_text()
        page.get_by_role("button", name="Good answer").first.click()
        page.locator(".rating [aria-pressed=true]").wait_for()
    with opened(chromium, f"{service}/{address}") as page:
        page.locator(".episode:nth-child(2) .answer").wait_for()
        assert page.locator("#episodes").inner_text() == shown, "replayed, it looks the same"
    (rating,) = map(json.loads, (tmp_path / "store/ratings.jsonl").read_text().splitlines())
    assert (rating["thumb"], rating["model"], rating["question"]) == ("up", "trained", "Where is the tower?")
