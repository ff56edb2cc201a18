"""The page in a real browser: what is seen of episodes, links, failures and many viewers."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from support.episodes.asked_agents import FakePolicies, agent_of
from support.episodes.fakes import say
from support.services.agent_page import ask, opened, told, turns, wait_until
from support.services.asgi_servers import serve_asgi
from support.services.scripted_agent import EPISODE

from r1_searcher.agent_service.app import create_app
from r1_searcher.agent_service.service import AgentService
from r1_searcher.agent_service.store import EpisodeStore

pytestmark = pytest.mark.e2e


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


def test_thumbs_write_a_rating(chromium, url, agent):
    with opened(chromium, url) as page:
        ask(page, "Who?")
        page.get_by_role("button", name="Bad answer").click()
        page.wait_for_selector(".rating [aria-pressed=true]")
        page.get_by_label("Why (optional)").fill("wrong man")
        page.get_by_role("button", name="Send").click()
        page.locator(".rating form").wait_for(state="hidden")
    assert agent.ratings == [{"id": "e1", "thumb": "down"}, {"id": "e1", "thumb": "down", "comment": "wrong man"}]


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
