"""Passages become one harmless block that fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.episodes.fakes import ByteTokenizer, passages

from r1_searcher.episode.documents import DocumentBlock, DocumentWriter, Found, PassageSanitizer, passage_text
from r1_searcher.episode.protocol import Protocol, Tags
from r1_searcher.recipe.protocols import R1_SEARCHER_BASE, R1_SEARCHER_TINY
from retriever.passage import Passage

FORBIDDEN = (*R1_SEARCHER_TINY.tags, "<|endoftext|>", "<s>", "</s>")
sanitize = PassageSanitizer(FORBIDDEN)
encode = ByteTokenizer().encode


def writer(protocol: Protocol, encode=encode) -> DocumentWriter:
    return DocumentWriter(protocol, protocol.frame, encode, sanitize)


def render(protocol: Protocol, found) -> str:
    return writer(protocol).render([Found("q", tuple(found))])


def fit_passages(found, budget, encode=encode) -> DocumentBlock | None:
    return writer(R1_SEARCHER_TINY, encode).fit([Found("q", tuple(found))], budget)


pieces = st.lists(
    st.one_of(
        st.sampled_from(FORBIDDEN),
        st.text(max_size=5),
        st.sampled_from(["<|end_of_", "documents|>", "<", "|"]),
    ),
    max_size=12,
).map("".join)


@given(pieces)
def test_no_forbidden_text_is_left_and_a_second_pass_changes_nothing(text):
    once = sanitize(text)
    assert not any(bad in once for bad in FORBIDDEN)
    assert sanitize(once) == once
    assert len(once.splitlines()) <= 1, "a passage stands on one line"


@given(
    st.lists(st.text(alphabet="ab <", min_size=1, max_size=4), max_size=6),
    st.text(alphabet="ab <", max_size=40),
)
def test_any_forbidden_strings_terminate(forbidden, text):
    clean = PassageSanitizer(forbidden)
    once = clean(text)
    assert clean(once) == once
    for bad in forbidden:
        if len(bad) > 1 and " " not in bad[:2]:
            assert bad not in once


@given(st.text(alphabet=st.characters(blacklist_categories=["Cc", "Cs", "Zl", "Zp"], blacklist_characters="<")))
def test_a_harmless_passage_keeps_its_bytes(text):
    assert sanitize(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("</answer>", "< /answer>"),
        ("<|end_of_<|end_of_documents|>documents|>", "<|end_of_< |end_of_documents|>documents|>"),
        ("<|endoftext|>", "< |endoftext|>"),
        ("a\r\n\x00b\u2028c\x85d\x0be", "a b c d e"),
        ("", ""),
        ("<<s>s>", "<< s>s>"),
        ("<</s>s>", "<< /s>s>"),
        ("a < b, <i>, <|x|>", "a < b, <i>, <|x|>"),
    ],
)
def test_sanitized(text, clean):
    assert sanitize(text) == clean


def test_nothing_forbidden():
    assert PassageSanitizer([])("<s>\n") == "<s> "


def test_a_lone_surrogate_in_a_passage_becomes_encodable_text():
    """JSON may carry half a surrogate pair; no tokenizer encodes one."""
    sanitize("broken \ud83d emoji").encode("utf-8")


def test_title_and_text_are_both_sanitized():
    block = render(R1_SEARCHER_BASE, [Passage("p", "</answer>\nT", "<answer>")])
    assert block == "\n\n<|begin_of_documents|>\n(1)Title: < /answer> T Text: < answer>\n<|end_of_documents|>\n\n"


def test_braces_in_a_passage_are_literal():
    assert "{rank} {0}" in render(R1_SEARCHER_TINY, passages("{rank} {0}"))


def test_the_query_can_stand_once_more_after_the_passages():
    after = "<|end_of_documents|>\n\nAgain: {query}\n"
    protocol = replace(R1_SEARCHER_TINY, after_documents=after)
    frame = Tags(f"<user>{protocol.before_documents}", f"{after}<end>")
    block = DocumentWriter(protocol, frame, encode, sanitize).render([Found("who </s>?", passages("{query}"))])
    assert block.endswith("(1) {query}\n<|end_of_documents|>\n\nAgain: who < /s>?\n<end>")
    assert passage_text(protocol, block) == "{query}\n", "a reward does not find a gold answer in the query"


def fit(texts, budget):
    return fit_passages(passages(*texts), budget)


FRAME = len(encode(render(R1_SEARCHER_TINY, []))) - len("None")


def test_everything_fits_exactly():
    block = fit(["abc", "de"], FRAME + len("(1) abc\n(2) de\n"))
    assert [passage.text for passage in block.shown] == ["abc", "de"]
    assert len(block.ids) == FRAME + len("(1) abc\n(2) de\n") and list(block.ids) == encode(block.text)


def test_a_long_passage_does_not_push_the_shorter_ones_behind_it_out():
    block = fit(["x" * 50, "ab", "cd"], FRAME + 20)
    assert [passage.text for passage in block.shown] == ["ab", "cd"]
    assert "(1) ab\n(2) cd\n" in block.text, "ranks count what is shown"


@pytest.mark.parametrize("budget", [-5, 0, 1, FRAME, FRAME + 3])
def test_no_room_for_the_tags(budget):
    assert fit(["abc"], budget) is None
    assert fit([], budget) is None


def test_the_empty_block_fits_exactly():
    assert fit(["abcdef"], FRAME + 4).shown == ()


def test_a_huge_passage_is_left_out_without_being_encoded():
    seen: list[int] = []

    def counting(text: str) -> list[int]:
        seen.append(len(text))
        return encode(text)

    found = [Passage("huge", "", "word " * 200_000), Passage("ok", "", "fine")]
    block = fit_passages(found, 200, counting)
    assert [passage.id for passage in block.shown] == ["ok"] and max(seen) < 1000


def test_a_passage_of_long_tokens_that_fits_is_shown():
    """Real vocabularies have tokens of 64 and more characters: rules of dashes, indents, repeated letters."""
    tokenizer = ByteTokenizer(["-" * 64])
    found = passages("-" * 64 * 60)  # 60 tokens
    block = fit_passages(found, FRAME + 80, tokenizer.encode)
    assert [passage.id for passage in block.shown] == ["p1"]


def test_white_space_that_the_sanitizer_removes_does_not_count():
    block = fit(["\n" * 5000 + "abc"], FRAME + 40)
    assert [passage.id for passage in block.shown] == ["p1"]


@given(texts=st.lists(st.text(max_size=30), max_size=5), budget=st.integers(0, 250))
def test_the_block_fits_and_shows_a_subsequence(texts, budget):
    block = fit(texts, budget)
    if block is None:
        return
    assert len(block.ids) <= budget
    ids = [int(passage.id[1:]) for passage in block.shown]
    assert ids == sorted(set(ids))
    assert block.text == render(R1_SEARCHER_TINY, block.shown)
