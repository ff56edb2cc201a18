"""Golden bytes: whole exchanges of each protocol, texts and ids, written down by hand in ``tests/golden``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fakes import ByteTokenizer, check_invariants, play

from r1_searcher.documents import PassageSanitizer, render_documents
from r1_searcher.protocol import PROTOCOLS, R1_SEARCHER_BASE, prompt_text
from r1_searcher.question import QARow
from retriever.passage import Passage

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("r1_searcher_*.json"))
EXCHANGES = [(path.stem, exchange["name"]) for path in GOLDEN for exchange in json.loads(path.read_text())["exchanges"]]


def load(stem: str) -> dict:
    return json.loads((GOLDEN[0].parent / f"{stem}.json").read_text(encoding="utf-8"))


def test_every_protocol_has_golden_exchanges():
    assert {load(path.stem)["protocol"] for path in GOLDEN} == set(PROTOCOLS)
    assert len(EXCHANGES) >= 12


@pytest.mark.parametrize(("stem", "name"), EXCHANGES)
def test_exchange(stem, name):
    golden = load(stem)
    exchange = next(exchange for exchange in golden["exchanges"] if exchange["name"] == name)
    tokenizer = ByteTokenizer(golden["pieces"][1:], golden["pieces"][1:])
    row = QARow("g", exchange["question"], ("gold",))
    hits = [[Passage(**passage) for passage in found] for found in exchange["hits"]]
    played = play(exchange["turns"], *hits, protocol=PROTOCOLS[golden["protocol"]], tokenizer=tokenizer, row=row)
    check_invariants(played)
    trajectory = played.trajectory
    prompt, *rest = trajectory.spans
    assert prompt.text == golden["prompt"].replace("{question}", exchange["question"])
    found = [[span.kind.value, span.text, list(trajectory.ids[span.start : span.end])] for span in rest]
    assert found == exchange["spans"]
    assert (trajectory.stop_reason.value, trajectory.answer) == (exchange["stop_reason"], exchange["answer"])
    assert [search.query for search in trajectory.searches] == exchange["queries"]


def test_tiny_prompt_ids():
    golden = load("r1_searcher_tiny")
    tokenizer = ByteTokenizer(golden["pieces"][1:])
    assert tokenizer.encode(golden["prompt"].replace("{question}", "Where?")) == golden["prompt_ids"]


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_a_protocol_is_coherent(protocol):
    assert protocol.documents.open in protocol.before_documents
    assert protocol.documents.close in protocol.after_documents
    assert protocol.stops == (protocol.query.close,)
    assert len(set(protocol.tags)) == 8 and list(protocol.tags) == sorted(protocol.tags, key=len, reverse=True)
    assert prompt_text(protocol.prompt).count("{question}") == 1
    rendered = protocol.passage_format.format(rank=1, title="t", text="x")
    assert rendered.startswith("(1)") and rendered.endswith("\n")
    assert PROTOCOLS[protocol.name] is protocol


def test_the_prompt_leaves_the_think_tag_open():
    for protocol in PROTOCOLS.values():
        start = protocol.prefill or prompt_text(protocol.prompt)
        assert start.endswith("<think>"), protocol.name


def published_blocks() -> list[str]:
    path = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "trajectories" / "hotpotqa_llama.jsonl"
    if not path.is_file():
        pytest.skip(f"published trajectories are not here: {path}")
    completions = [json.loads(line)["completion"] for line in path.read_text(encoding="utf-8").splitlines()]
    pattern = re.compile(r"(?<=<\|end_of_query\|>)\n\n<\|begin_of_documents\|>.*?<\|end_of_documents\|>\n\n", re.DOTALL)
    return [block for completion in completions for block in pattern.findall(completion)]


def test_document_blocks_have_the_bytes_of_published_trajectories():
    """Lines taken apart from a published block and rendered by us give the block back, byte for byte.

    The published corpus has a second blank behind "Text:", which counts as part of the passage here.
    """
    blocks = published_blocks()
    sanitize = PassageSanitizer(R1_SEARCHER_BASE.tags)
    line = re.compile(r"^\(\d+\)Title: (.*?) Text: (.*)$")
    checked = 0
    for block in blocks:
        lines = block.removeprefix("\n\n<|begin_of_documents|>\n").removesuffix("<|end_of_documents|>\n\n").split("\n")
        parts = [line.match(text) for text in lines[:-1]]
        if not all(parts):
            continue
        found = [Passage(str(n), part[1], part[2]) for n, part in enumerate(parts)]
        assert render_documents(R1_SEARCHER_BASE, found, sanitize) == block
        checked += 1
    assert checked > 100, f"{checked} of {len(blocks)} blocks have unquoted lines of this form"
