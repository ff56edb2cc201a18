"""Episodes in other tags and other tokens: what is kept, what is left out, and that nothing is lost on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.episodes.fakes import ROOMY, ByteTokenizer, play, turn_that_answers, turn_that_asks

from data_prep.demonstrations.blocks import passages_of
from data_prep.demonstrations.outline import Outline, OutlinedSearch, outline_of
from data_prep.demonstrations.rewriting import Rewriter
from data_prep.demonstrations.thoughts import FIRST, LAST, NEXT, THOUGHTS
from r1_searcher.episode.question import QARow
from r1_searcher.episode.sft_row import sft_row
from r1_searcher.episode.trajectory import SpanKind
from r1_searcher.episode.transcript_import import import_transcript
from r1_searcher.recipe.protocols import PROTOCOLS, R1_SEARCHER_BASE
from retriever.passage import Passage

ROW = QARow("q", "Where is the tower?", ("Paris",))
FOUND = (Passage("", "Tower", "The tower stands in Paris."), Passage("", "Bridge", "A bridge: of (1) arches."))
OUTLINE = Outline(
    ROW,
    (
        OutlinedSearch("I look. Then I see.", ("tower place",), FOUND),
        OutlinedSearch("Once more.", ("Paris",), FOUND[:1]),
    ),
    "It is Paris. Sure.",
    "Paris",
)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


def rewriter(name, **limits):
    protocol = PROTOCOLS[name]
    tokenizer = ByteTokenizer(eos="<|im_end|>", template=TEMPLATE)
    return Rewriter(protocol, replace(ROOMY, **{"top_k": 2, "max_length": 65536, **limits}), tokenizer)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_an_outline_can_be_written_in_every_protocol_and_read_again(name):
    writer = rewriter(name)
    episode = writer.rewrite(OUTLINE)
    assert episode is not None and writer.protocol.is_well_formed(episode)
    again = outline_of(episode, writer.protocol)
    assert again is not None and (again.answer, again.thought) == ("Paris", OUTLINE.thought)
    assert [(step.thought, step.queries) for step in again.steps] == [(s.thought, s.queries) for s in OUTLINE.steps]
    for step, wanted in zip(again.steps, OUTLINE.steps, strict=True):
        assert len(step.passages) == len(wanted.passages)
        assert all(want.text in got.text for got, want in zip(step.passages, wanted.passages, strict=True))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_only_what_a_policy_writes_is_trained(name):
    writer = rewriter(name)
    episode = writer.rewrite(OUTLINE)
    row = sft_row(episode, writer.tokenizer)
    trained = "".join(writer.tokenizer.decode(row.ids[start:end]) for start, end in row.targets)
    assert "stands in Paris" not in trained and "Where is" not in trained and "It is Paris." in trained
    assert row.ids == episode.ids and len(row.targets) == len(OUTLINE.steps) + 1


@pytest.mark.parametrize("source", ["r1_searcher.base", "search_r1", "research.chat", "deep_researcher"])
@pytest.mark.parametrize("target", ["r1_searcher.chat", "search_r1", "research.base", "deep_researcher"])
def test_from_any_protocol_to_any_other(source, target):
    queries = ("tower",)
    protocol = PROTOCOLS[source]
    tokenizer = ByteTokenizer(eos="<|im_end|>", template=TEMPLATE)
    turns = [turn_that_asks(protocol, *queries), turn_that_answers(protocol, "Paris")]
    limits = replace(ROOMY, max_length=65536)
    played = play(turns, FOUND, protocol=protocol, tokenizer=tokenizer, limits=limits)
    outline = outline_of(played.trajectory, protocol)
    assert outline is not None and outline.answer == "Paris" and outline.steps[0].queries == queries
    assert rewriter(target).rewrite(outline) is not None


RELEASED = (
    ' I think. It may be. <|begin_of_query|> tower "place"<|end_of_query|>\n\n<|begin_of_documents|>\n'
    '(1)"Title: The ""Tower"" Text:  It is in ""Paris""."\n'
    "(2)Title: Bridge Text:  A bridge.\n"
    "(3)Paris   Paris Paris is a city.\n"
    "<|end_of_documents|>\n\nSo it is Paris.</think>\n\n<answer> Paris </answer>"
)


def test_a_released_transcript_is_read_with_every_form_of_passage():
    episode = import_transcript(RELEASED, ROW, R1_SEARCHER_BASE)
    outline = outline_of(episode, R1_SEARCHER_BASE)
    assert outline == Outline(
        ROW,
        (
            OutlinedSearch(
                "I think. It may be.",
                ("tower place",),
                (
                    Passage("", 'The "Tower"', 'It is in "Paris".'),
                    Passage("", "Bridge", "A bridge."),
                    Passage("", "Paris", "Paris Paris is a city."),
                ),
            ),
        ),
        "So it is Paris.",
        "Paris",
    )
    written = rewriter("search_r1", top_k=1).rewrite(outline)
    (block,) = written.of_kind(SpanKind.DOCUMENTS)
    assert block.text == '\n\n<information>Doc 1(Title: "The "Tower"") It is in "Paris".</information>\n\n'


def test_how_much_of_a_thought_is_kept():
    first, fixed = THOUGHTS["first"](OUTLINE), THOUGHTS["fixed"](OUTLINE)
    assert [step.thought for step in first.steps] == ["I look.", "Once more."] and first.thought == "It is Paris."
    assert [step.thought for step in fixed.steps] == [FIRST, NEXT] and fixed.thought == LAST
    for thought, kept in (("", ""), ("It was 1.5 m\nhigh. Yes.", "It was 1.5 m"), ("So 1.5 m? Yes.", "So 1.5 m?")):
        assert THOUGHTS["first"](replace(OUTLINE, thought=thought)).thought == kept


@pytest.mark.parametrize(
    ("outline", "limits"),
    [
        (OUTLINE, {"max_length": 700}),
        (OUTLINE, {"turn_tokens": 20}),
        (OUTLINE, {"max_searches": 1}),
        (replace(OUTLINE, thought="A </think> forged."), {}),
        (replace(OUTLINE, answer="<|im_end|>"), {}),
        (replace(OUTLINE, steps=(replace(OUTLINE.steps[0], queries=("a", "b")),)), {}),
        (replace(OUTLINE, answer=" ".join("abcdefghijk")), {}),
    ],
    ids=["episode", "turn", "searches", "tag", "eos", "queries", "format"],
)
def test_what_cannot_be_written_as_a_policy_could_is_left_out(outline, limits):
    assert rewriter("r1_searcher.chat", **limits).rewrite(outline) is None


def test_an_episode_without_an_answer_and_a_corrected_turn():
    protocol = PROTOCOLS["search_r1"]
    tokenizer = ByteTokenizer(eos="<|im_end|>", template=TEMPLATE)
    turns = ["no action", turn_that_asks(protocol, "tower"), turn_that_answers(protocol, "Paris")]
    played = play(turns, FOUND, protocol=protocol, tokenizer=tokenizer, limits=ROOMY)
    outline = outline_of(played.trajectory, protocol)
    assert outline is not None and [step.thought for step in outline.steps] == ["Hm."], "the corrected turn is gone"
    assert outline_of(import_transcript(" I give up.", ROW, R1_SEARCHER_BASE), R1_SEARCHER_BASE) is None


words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(PROTOCOLS)), words, words)
def test_a_passage_comes_back_from_every_block(name, title, text):
    writer = rewriter(name)
    outline = replace(OUTLINE, steps=(OutlinedSearch("I look.", ("tower",), (Passage("", title, text),)),))
    episode = writer.rewrite(outline)
    if episode is not None:
        (block,) = episode.of_kind(SpanKind.DOCUMENTS)
        (passage,) = passages_of(writer.protocol, block.text)
        assert passage.text.endswith(text)


@pytest.mark.parametrize("block", ["[1, 2]", "no brackets", "[cut off", '[{"other": 1}]'])
def test_a_tools_block_without_results_has_no_passages(block):
    assert passages_of(PROTOCOLS["deep_researcher"], block) == ()
