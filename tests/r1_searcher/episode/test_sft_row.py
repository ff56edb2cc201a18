"""An episode as a row of fine-tuning: its own ids, and as targets what the policy wrote."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.episodes.fakes import ROOMY, Played, Turn, passages, play, tag_tokenizer, turn_that_answers, turn_that_asks
from support.models.tokenizer_families import FAMILIES

from foundation.errors import InputError
from r1_searcher.episode.sft_row import SFTRow, sft_row
from r1_searcher.episode.trajectory import SpanKind
from r1_searcher.recipe.protocols import DEEP_RESEARCHER, PROTOCOLS, R1_SEARCHER_CHAT, R1_SEARCHER_TINY, RESEARCH_BASE

BYTES = ("GPT-2", "SmolLM2", "Llama-3", "Qwen2")
ROOM = replace(ROOMY, max_length=32768, turn_tokens=2048)


@pytest.fixture(scope="module")
def built():
    return {name: build() for name, build in FAMILIES.items()}


def episode(protocol, tokenizer) -> Played:
    """A search, an action that is corrected where the protocol does so, and an answer."""
    turns = [turn_that_asks(protocol, "tower")]
    if protocol.forgiving:
        turns.append(f"Hm.{protocol.query.open}{protocol.query.close}")
    turns.append(turn_that_answers(protocol, "Paris"))
    found = passages("It is in Paris.\n\nNow closed.")
    return play(turns, found, protocol=protocol, limits=ROOM, tokenizer=tokenizer)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_ids_and_targets_are_those_of_the_episode(built, protocol):
    for name in FAMILIES:
        tokenizer = built[name]
        played = episode(protocol, tokenizer)
        row = SFTRow.from_mapping(json.loads(json.dumps(sft_row(played.trajectory, tokenizer).to_mapping())))
        assert row.ids == played.trajectory.ids, name
        # As sampled: with the EOS of a turn that ended with one, and none after a turn that ended at a tag.
        assert [row.ids[start:end] for start, end in row.targets] == played.policy.sampled, name
        assert len(row.targets) >= 1 + (name in BYTES), f"{name}: a search and an answer"
        inserted = played.trajectory.of_kind(SpanKind.PROMPT, SpanKind.DOCUMENTS, SpanKind.FEEDBACK)
        trained = {place for start, end in row.targets for place in range(start, end)}
        assert trained.isdisjoint(place for span in inserted for place in range(span.start, span.end)), name


@pytest.mark.parametrize("name", BYTES)
def test_the_text_encoded_again_would_have_other_ids(built, name):
    """The reason why a row holds ids: each of these families joins what two writers wrote."""
    tokenizer = built[name]
    rows = [
        sft_row(episode(each, tokenizer).trajectory, tokenizer)
        for each in (R1_SEARCHER_CHAT, RESEARCH_BASE, DEEP_RESEARCHER)
    ]
    assert any(tuple(tokenizer.encode(row.text)) != row.ids for row in rows)


def test_ids_that_are_no_canonical_encoding_stay(built):
    tokenizer = built["Qwen2"]
    pieces = [token for letter in "</think> <answer>Paris</answer>" for token in tokenizer.encode(letter)]
    trajectory = play([Turn(ids=tuple(pieces))], tokenizer=tokenizer).trajectory
    row = sft_row(trajectory, tokenizer)
    ((start, end),) = row.targets
    assert row.ids[start:end] == (*pieces, *tokenizer.eos_ids)


def test_another_tokenizer_is_refused(built):
    trajectory = episode(R1_SEARCHER_TINY, built["Qwen2"]).trajectory
    with pytest.raises(InputError, match="not the one of the episodes"):
        sft_row(trajectory, built["tiny base"])


def test_an_episode_without_ids_is_refused():
    tokenizer = tag_tokenizer()
    trajectory = replace(episode(R1_SEARCHER_TINY, tokenizer).trajectory, ids=())
    with pytest.raises(InputError, match="'q1' has no token ids"):
        sft_row(trajectory, tokenizer)


@pytest.mark.parametrize("targets", [[], [[0, 2]], [[2, 1]], [[1, 3], [2, 4]], [[1, 5]]])
def test_targets_that_cannot_be_are_refused(targets):
    with pytest.raises(ValueError, match="targets must be ranges"):
        SFTRow.from_mapping({"ids": [5, 6, 7, 8], "targets": targets, "text": "abcd"})
