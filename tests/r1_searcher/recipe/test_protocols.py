"""Golden bytes: whole exchanges of each protocol, texts and ids, written down by hand in `tests/golden`."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from support.episodes.fakes import CHATML, ROOMY, ByteTokenizer, Played, Turn, check_invariants, play
from support.episodes.transcripts import needs_published, transcripts

from foundation.errors import InputError
from r1_searcher.episode.documents import DocumentWriter, Found, PassageSanitizer, passage_text
from r1_searcher.episode.question import QARow
from r1_searcher.recipe.protocols import PROTOCOLS, R1_SEARCHER_BASE, find_protocol
from retriever.passage import Passage

FOLDER = Path(__file__).parents[2] / "golden"
GOLDEN = {
    name: json.loads((FOLDER / f"{name.replace('.', '_')}.json").read_text(encoding="utf-8"))
    for name in PROTOCOLS
    if name != "own_agent"  # whose exchange is the agent's
}
EXCHANGES = [
    pytest.param(golden, exchange, id=f"{golden['protocol']}: {exchange['name']}")
    for golden in GOLDEN.values()
    for exchange in golden["exchanges"]
]
SYSTEMS = ("r1_searcher", "search_r1", "research", "zerosearch", "deep_researcher")


def test_every_protocol_has_golden_exchanges_and_every_system_a_dozen():
    systems = Counter()
    for name, golden in GOLDEN.items():
        assert golden["protocol"] == name
        names = [exchange["name"] for exchange in golden["exchanges"]]
        assert len(set(names)) == len(names)
        systems[golden["protocol"].split(".")[0]] += len(names)
    assert set(systems) == set(SYSTEMS) and min(systems.values()) >= 12


def tokenizer_of(golden: dict, exchange: dict) -> ByteTokenizer:
    eos, *pieces = exchange.get("pieces", golden["pieces"])
    return ByteTokenizer(pieces, pieces, eos=eos, template=golden.get("template", CHATML))


def played(golden: dict, exchange: dict, prompt: str) -> Played:
    tokenizer = tokenizer_of(golden, exchange)
    limits = replace(ROOMY, **exchange.get("limits", {}))
    if "room" in exchange:  # tokens after the prompt
        limits = replace(limits, max_length=len(tokenizer.encode(prompt)) + exchange["room"])
    results, pages = (
        [[Passage(**passage) for passage in found] for found in exchange.get(key, [])] for key in ("hits", "pages")
    )
    turns = [turn if isinstance(turn, str) else Turn(**turn) for turn in exchange["turns"]]
    protocol, row = PROTOCOLS[golden["protocol"]], QARow("g", exchange["question"], ("gold",))
    return play(turns, *results, protocol=protocol, tokenizer=tokenizer, row=row, limits=limits, pages=pages or [()])


@pytest.mark.parametrize(("golden", "exchange"), EXCHANGES)
def test_exchange(golden, exchange):
    expected_prompt = golden["prompt"].replace("{date}", date.today().isoformat())
    expected_prompt = expected_prompt.replace("{question}", exchange.get("asked", exchange["question"]))
    done = played(golden, exchange, expected_prompt)
    check_invariants(done)
    trajectory = done.trajectory
    prompt, *rest = trajectory.spans
    assert prompt.text == expected_prompt
    found = [[span.kind.value, span.text, list(trajectory.ids[span.start : span.end])] for span in rest]
    assert found == exchange["spans"]
    assert (trajectory.stop_reason.value, trajectory.answer) == (exchange["stop_reason"], exchange["answer"])
    assert [search.query for search in trajectory.searches] == exchange["queries"]
    assert len(done.policy.asked) == len(exchange["turns"]), "every scripted turn was asked for"


def test_tiny_prompt_ids():
    golden = GOLDEN["r1_searcher.tiny"]
    tokenizer = ByteTokenizer(golden["pieces"][1:])
    assert tokenizer.encode(golden["prompt"].replace("{question}", "Where?")) == golden["prompt_ids"]


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_a_protocol_is_coherent(protocol):
    assert find_protocol(protocol.name) is protocol
    assert len(set(protocol.tags)) == 8 and list(protocol.tags) == sorted(protocol.tags, key=len, reverse=True)
    assert protocol.prompt.count("{question}") == 1
    assert (protocol.query.close in protocol.stops) == protocol.stops_at_query
    assert (protocol.answer.close in protocol.stops) == protocol.stops_at_answer
    if protocol.tools:
        assert protocol.chat and not protocol.forgiving
        assert len({tool.name for tool in protocol.tools}) == len(protocol.tools)
        assert {tool.retriever for tool in protocol.tools} <= {"search", "browse"}
        return
    assert protocol.stops_at_query, "without tools a turn is a search only where the engine stopped at the tag"
    assert protocol.documents.open in protocol.before_documents
    assert protocol.documents.close in protocol.after_documents
    block = writer(protocol).render([Found("q", (Passage("p", "cats", "zebra"), Passage("p", "dogs", "yak")))])
    shown = passage_text(protocol, block)
    assert shown.count("zebra") == shown.count("yak") == 1 and not set("12") & set(shown)


def test_an_unknown_protocol_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"unknown protocol 'search_r2'; known: r1_searcher\.base, .*search_r1, "):
        find_protocol("search_r2")


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_who_opens_the_thought(protocol):
    """R1-Searcher's prompts and DeepResearcher's turns begin inside a thought; the others' policies open theirs."""
    start = protocol.prefill or protocol.prompt
    assert start.endswith("<think>") == protocol.name.startswith(("r1_searcher", "deep_researcher"))


def writer(protocol) -> DocumentWriter:
    frame = protocol.frame
    return DocumentWriter(protocol, frame, str.encode, PassageSanitizer(protocol.tags))


def published_blocks(run: str) -> list[str]:
    pattern = re.compile(r"(?<=<\|end_of_query\|>)\n\n<\|begin_of_documents\|>.*?<\|end_of_documents\|>\n\n", re.DOTALL)
    return [block for row in transcripts(run) for block in pattern.findall(row["completion"])]


@pytest.mark.parametrize(
    ("run", "least"), [("made_up_llama", 15), pytest.param("hotpotqa_llama", 101, marks=needs_published)]
)
def test_document_blocks_have_the_bytes_of_published_trajectories(run, least):
    """Lines taken apart from a published block and rendered by us give the block back, byte for byte.

    The published corpus has a second blank after "Text:", which counts as part of the passage here.
    """
    blocks = published_blocks(run)
    write = writer(R1_SEARCHER_BASE).render
    line = re.compile(r"^\(\d+\)Title: (.*?) Text: (.*)$")
    checked = 0
    for block in blocks:
        lines = block.removeprefix("\n\n<|begin_of_documents|>\n").removesuffix("<|end_of_documents|>\n\n").split("\n")
        parts = [line.match(text) for text in lines[:-1]]
        if not all(parts):
            continue
        found = [Passage(str(n), part[1], part[2]) for n, part in enumerate(parts)]
        assert write([Found("q", tuple(found))]) == block
        checked += 1
    assert checked >= least, f"{checked} of {len(blocks)} blocks have unquoted lines of this form"
