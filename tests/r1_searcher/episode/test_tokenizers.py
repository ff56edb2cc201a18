"""Episodes over real tokenizer families, trained small here: what each does to spans and special tokens."""

from __future__ import annotations

import pytest
from support.episodes.fakes import ROOMY, ask, check_invariants, passages, play, say
from support.models.tokenizer_families import FAMILIES, LOSSLESS, word_piece, wrapped

from r1_searcher.episode.documents import PassageSanitizer
from r1_searcher.episode.tokenization import HFTokenizer
from r1_searcher.episode.trajectory import SpanKind, StopReason
from r1_searcher.recipe.protocols import R1_SEARCHER_TINY


@pytest.fixture(scope="session")
def built() -> dict[str, HFTokenizer]:
    return {name: build() for name, build in FAMILIES.items()}


@pytest.fixture(params=FAMILIES)
def tokenizer(request, built) -> HFTokenizer:
    return built[request.param]


def test_an_episode_keeps_every_invariant(tokenizer):
    played = play([ask("tower", "Hm. "), say("Paris")], passages("A tower.", "In Paris."), tokenizer=tokenizer)
    check_invariants(played)
    trajectory = played.trajectory
    assert (trajectory.stop_reason, trajectory.answer) == (StopReason.ANSWERED, "Paris")
    assert [search.query for search in trajectory.searches] == ["tower"]
    for span in trajectory.of_kind(SpanKind.ACTION):
        ids = trajectory.ids[span.start : span.end]
        assert span.text == tokenizer.decode(ids[:-1] if ids[-1] in tokenizer.eos_ids else ids)


def test_nothing_is_added_in_the_middle_of_a_sequence(tokenizer):
    played = play([ask("tower"), ask("city"), say("Paris")], passages("A tower."), tokenizer=tokenizer)
    ids, bos = played.trajectory.ids, tokenizer.hf.bos_token_id
    added = {i for i in (bos, *tokenizer.eos_ids) if i is not None}
    begun = len(tokenizer.encode(tokenizer.beginning))  # as the tokenizer begins every text, once
    assert [i for i in ids[begun:-1] if i in added] == [], "BOS or EOS in the prompt, an action or a block"
    assert ids[-1] in tokenizer.eos_ids


@pytest.mark.parametrize("name", LOSSLESS)
def test_the_block_and_the_prompt_decode_to_their_text(built, name):
    played = play([ask("tower"), say("Paris")], passages("A tower in Paris."), tokenizer=built[name])
    for span in played.trajectory.of_kind(SpanKind.DOCUMENTS, SpanKind.PROMPT):
        decoded = built[name].decode(played.trajectory.ids[span.start : span.end])
        assert decoded == span.text


def test_every_tag_survives_encoding_and_decoding(tokenizer):
    for tag in R1_SEARCHER_TINY.tags:
        assert tag in tokenizer.decode(tokenizer.encode(f"a {tag} b"))


def test_a_lossy_tokenizer_that_does_not_know_the_tags_searches_for_nothing():
    """Its text of a tag is `< | end _ of ...`: no query can be read. Such a model needs the tags added."""
    tokenizer = wrapped(word_piece())
    assert "<|end_of_query|>" not in tokenizer.decode(tokenizer.encode(ask("tower")))
    played = play([ask("tower") + say("Paris")], tokenizer=tokenizer, limits=ROOMY)
    check_invariants(played)
    assert played.trajectory.searches == () and played.trajectory.answer is None


def test_special_tokens_in_a_passage_never_become_special_ids(tokenizer):
    evil = " ".join(sorted(tokenizer.special_texts)) + "".join(R1_SEARCHER_TINY.tags)
    harmless = play([ask("tower"), say("Paris")], passages("x"), tokenizer=tokenizer)
    hostile = play([ask("tower"), say("Paris")], passages(evil), tokenizer=tokenizer)
    check_invariants(hostile)
    special = {tokenizer.hf.convert_tokens_to_ids(text) for text in tokenizer.special_texts}
    special |= set(tokenizer.hf.get_added_vocab().values())
    special -= {tokenizer.hf.unk_token_id, tokenizer.hf.convert_tokens_to_ids("<unk>")}

    def in_documents(played) -> list[int]:
        (block,) = played.trajectory.of_kind(SpanKind.DOCUMENTS)
        return [i for i in played.trajectory.ids[block.start : block.end] if i in special]

    assert in_documents(hostile) == in_documents(harmless)


def test_the_sanitizer_breaks_every_special_text(tokenizer):
    sanitize = PassageSanitizer({*R1_SEARCHER_TINY.tags, *tokenizer.special_texts})
    for text in tokenizer.special_texts:
        assert text not in sanitize(f"a{text}b{text}{text}")


def test_sampled_ids_with_no_canonical_text_are_kept(tokenizer):
    """The policy may write a word in pieces that the tokenizer would never cut it into."""
    from support.episodes.fakes import Turn

    pieces = [i for letter in "Paris" for i in tokenizer.encode(letter)]
    played = play([Turn(ids=tuple(pieces))], tokenizer=tokenizer)
    check_invariants(played)
    assert played.trajectory.stop_reason is StopReason.NO_ANSWER


def test_an_eos_alone_is_an_empty_text(tokenizer):
    played = play([""], tokenizer=tokenizer)
    assert played.texts(SpanKind.ACTION) == [""]
    assert played.trajectory.stop_reason is StopReason.NO_ANSWER


def test_eos_ids_of_a_list_and_of_none():
    class Hf:
        eos_token_id = [1, 2]

    assert HFTokenizer(Hf()).eos_ids == {1, 2}
    Hf.eos_token_id = None
    assert HFTokenizer(Hf()).eos_ids == frozenset()
    Hf.eos_token_id = 0
    assert HFTokenizer(Hf()).eos_ids == {0}
