"""Recipes and baselines as they are played through the one loop."""

from __future__ import annotations

import asyncio

import pytest
from support.episodes.evaluations import Run, policy_of, retriever_of, rows
from support.episodes.fakes import ROW, ByteTokenizer, ask, passages, say, tag_tokenizer

from eval.play.contestant import BASELINES, Contestant, find_contestant
from foundation.errors import InputError
from r1_searcher.episode.prompting import render_prompt
from r1_searcher.episode.trajectory import SpanKind, StopReason
from r1_searcher.inference.sources import NoRetriever, SearchSources
from r1_searcher.recipe.recipe import RECIPES
from retriever.passage import SearchRequest


def played(tmp_path, name: str, script):
    """One question of a baseline: its trajectory and the retriever."""
    from r1_searcher.run.episode_log import read_episodes

    questions = rows(1)
    run = Run(tmp_path, questions, policy_of(questions, script), retriever_of(passages("a fact")))
    run.contestant = BASELINES[name]
    asyncio.run(run())
    (record,) = read_episodes(tmp_path / "predictions.jsonl")
    return record.trajectory, run


def test_every_recipe_is_a_contestant_and_names_do_not_clash():
    assert not set(RECIPES) & set(BASELINES)
    for name, recipe in RECIPES.items():
        assert find_contestant(name) == Contestant(recipe)
    with pytest.raises(InputError, match="baseline.rag"):
        find_contestant("none")


@pytest.mark.parametrize("name", [name for name in BASELINES if not name.startswith("tiny.")])
def test_prompts_of_baselines_fit_what_may_be_searched(name):
    contestant = BASELINES[name]
    protocol = contestant.recipe.protocol
    prompt = render_prompt(protocol, ROW, ByteTokenizer())
    tells_how_to_search = protocol.query.open in prompt
    assert tells_how_to_search is (contestant.searches and not contestant.searches_first)
    assert ROW.question in prompt and ("<answer>" in prompt) is not protocol.plain_answer


def test_closed_book_answers_nothing_that_is_searched_for(tmp_path):
    trajectory, run = played(tmp_path, "tiny.closed_book", lambda row: [ask("help")])
    assert (trajectory.stop_reason, trajectory.n_searches) == (StopReason.SEARCH_LIMIT, 0)
    assert run.retriever.requests == [] and not BASELINES["tiny.closed_book"].searches
    assert asyncio.run(NoRetriever().search(SearchRequest("q", 1))) == ()
    assert SearchSources(None).facts() is None and isinstance(SearchSources(None).open()[0], NoRetriever)


def test_rag_searches_for_the_question_once_and_shows_what_was_found(tmp_path):
    trajectory, run = played(tmp_path, "tiny.rag", lambda row: [say(row.answers[0])])
    assert [request.query for request in run.retriever.requests] == ["Q0?"]
    assert [span.kind for span in trajectory.spans] == [
        SpanKind.PROMPT,
        SpanKind.ACTION,
        SpanKind.DOCUMENTS,
        SpanKind.ACTION,
    ]
    assert trajectory.answer == "a0" and "a fact" in trajectory.spans[2].text


def test_a_direct_answer_needs_no_tags(tmp_path):
    trajectory, run = played(tmp_path, "baseline.direct_rag", lambda row: [" a0"])
    assert [request.query for request in run.retriever.requests] == ["Q0?"]
    assert (trajectory.stop_reason, trajectory.answer) == (StopReason.ANSWERED, "a0")
    _, passage, after = trajectory.spans[2].text.partition("a fact")
    assert passage and "The question: Q0?\nReply with the answer alone." in after


def test_rag_has_no_second_search(tmp_path):
    trajectory, run = played(tmp_path, "tiny.rag", lambda row: [ask("more")])
    assert trajectory.stop_reason is StopReason.SEARCH_LIMIT and len(run.retriever.requests) == 1


def test_players_of_one_policy_are_independent():
    contestant, tokenizer = BASELINES["tiny.rag"], tag_tokenizer()
    first, second = (contestant.player(object(), row, tokenizer) for row in rows(2))  # type: ignore[arg-type]
    assert first is not second
    trained = Contestant(RECIPES["tiny.stage2"])
    policy = object()
    assert trained.player(policy, ROW, tokenizer) is policy  # type: ignore[arg-type]
