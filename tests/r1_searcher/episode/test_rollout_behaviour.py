"""What the episode loop promises. Breaking one of these is a decision, not a test to fix.

6 and 7 are tested in `test_room.py`, 13 in `test_corrections.py`, the others here.

 1. A search is followed by its documents, and the policy continues after them.
 2. Several searches follow each other; each gets its own documents.
 3. One search more than allowed ends the episode (SEARCH_LIMIT) and never reaches the retriever; corrections count
    as searches do; without a cap only the token budgets limit them.
 4. A query without words, or a closing tag without an opening one, ends the episode (INVALID_ACTION).
 5. EOS without an answer ends it (NO_ANSWER); EOS after an answer too (ANSWERED).
 6. The turn's and the episode's token budgets end it (LENGTH); an answer written by then is kept.
 7. Documents are cut passage-wise inside their tags, with room kept for an answer; no room at all is LENGTH.
 8. A search that finds nothing shows the protocol's word for it.
 9. A failing retriever ends it (RETRIEVER_ERROR), on record; any other exception is a bug and raises.
10. What the last token carries beyond the stop string is trained, and is not part of the query.
11. Sampled ids are never encoded again, however odd.
12. A prompt is the protocol's file; chat protocols go through the template and get the prefill.
13. A protocol with feedback continues after a turn without a usable action, as long as there is room and a move left;
    with an empty one it continues after an unusable query only, and nothing is inserted.
14. Concurrent episodes share an environment and nothing else.
15. Text of any script, and bytes that are no text, pass through.
16. A turn is a search only where the engine stopped at the tag.
17. The record says what was asked, found, shown, and how long things took.
18. The retriever is asked for the cleaned query, top-k passages, with the row and the run's progress as context.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from support.episodes.fakes import (
    ACTION,
    BLOCK,
    DOCUMENTS,
    PROMPT,
    ROOMY,
    ROW,
    ByteTokenizer,
    FakeRetriever,
    ScriptedPolicy,
    Turn,
    ask,
    check_invariants,
    overshooting_tokenizer,
    passages,
    play,
    say,
    tag_tokenizer,
)

from r1_searcher.episode.protocol import prompt_text
from r1_searcher.episode.question import QARow
from r1_searcher.episode.rollout import Environment, run_episode
from r1_searcher.episode.trajectory import StopReason
from r1_searcher.recipe.protocols import R1_SEARCHER_BASE, R1_SEARCHER_CHAT, R1_SEARCHER_TINY
from retriever.errors import RetrieverRejected, RetrieverTimeout, RetrieverUnavailable


def test_01_search_then_documents_then_answer():
    played = play([ask("tower"), say("Paris")], passages("It is in Paris."))
    check_invariants(played)
    assert played.kinds == [PROMPT, ACTION, DOCUMENTS, ACTION]
    assert played.texts(DOCUMENTS) == [BLOCK.format("(1) It is in Paris.\n")]
    assert (played.trajectory.stop_reason, played.trajectory.answer) == (StopReason.ANSWERED, "Paris")
    assert played.policy.asked[1].ids == played.trajectory.ids[: played.trajectory.spans[3].start]


def test_02_two_searches_get_their_own_documents():
    played = play([ask("one"), ask("two"), say("x")], passages("first"), passages("second", "third"))
    check_invariants(played)
    assert played.kinds == [PROMPT, ACTION, DOCUMENTS, ACTION, DOCUMENTS, ACTION]
    assert played.texts(DOCUMENTS) == [BLOCK.format("(1) first\n"), BLOCK.format("(1) second\n(2) third\n")]
    assert played.trajectory.n_searches == 2


def test_03_the_search_that_is_one_too_many_is_not_made():
    played = play([ask(str(n)) for n in range(4)], passages("p"), limits=replace(ROOMY, max_searches=3))
    check_invariants(played)
    assert played.trajectory.stop_reason is StopReason.SEARCH_LIMIT
    assert [request.query for request in played.retriever.requests] == ["0", "1", "2"]
    assert played.texts(ACTION)[-1] == ask("3"), "the turn that asked too much is the policy's and is trained"


def test_03_published_limit_is_eight_searches_and_nine_turns():
    played = play([ask("q")] * 8 + [say("x")], passages("p"))
    assert (len(played.policy.asked), played.trajectory.n_searches) == (9, 8)
    assert played.trajectory.stop_reason is StopReason.ANSWERED


def test_03_without_any_search_allowed_the_first_one_ends_the_episode():
    played = play([ask("q")], limits=replace(ROOMY, max_searches=0))
    assert (played.trajectory.stop_reason, played.retriever.requests) == (StopReason.SEARCH_LIMIT, [])


@pytest.mark.parametrize(
    "turn",
    [
        "<|begin_of_query|><|end_of_query|>",
        '<|begin_of_query|> \n\t"" <|end_of_query|>',
        "no opening tag<|end_of_query|>",
        "<|end_of_query|>",
        "<|begin_of_quer|>q<|end_of_query|>",
        "<|BEGIN_OF_QUERY|>q<|end_of_query|>",
    ],
)
def test_04_unusable_query_is_an_invalid_action(turn):
    played = play([turn])
    check_invariants(played)
    assert played.trajectory.stop_reason is StopReason.INVALID_ACTION
    assert played.retriever.requests == [] and played.trajectory.answer is None


def test_04_the_opening_tag_of_an_earlier_turn_does_not_count():
    played = play([ask("ok") + "", "then<|end_of_query|>"], passages("p"))
    assert played.trajectory.stop_reason is StopReason.INVALID_ACTION


@pytest.mark.parametrize(
    ("turn", "reason", "answer"),
    [
        ("", StopReason.NO_ANSWER, None),
        ("I do not know.</think>", StopReason.NO_ANSWER, None),
        ("<answer>open", StopReason.NO_ANSWER, None),
        ("</answer>wrong way<answer>", StopReason.NO_ANSWER, None),
        (say("Paris"), StopReason.ANSWERED, "Paris"),
        (say(" Paris\n"), StopReason.ANSWERED, "Paris"),
        (say(""), StopReason.ANSWERED, ""),
        (say("a") + say("b"), StopReason.ANSWERED, "b"),
        (say("a") + "<answer>b", StopReason.ANSWERED, "a"),
    ],
)
def test_05_end_of_turn(turn, reason, answer):
    played = play([turn])
    check_invariants(played)
    assert (played.trajectory.stop_reason, played.trajectory.answer) == (reason, answer)
    assert played.trajectory.ids[-1] == 256, "the EOS was sampled: it stays in the ids"
    assert played.texts(ACTION) == [turn], "and is not part of the text"


def test_08_nothing_found():
    played = play([ask("q"), say("x")], ())
    assert played.texts(DOCUMENTS) == ["\n\n<|begin_of_documents|>\nNone<|end_of_documents|>\n\n"]
    assert played.trajectory.n_searches == 1


@pytest.mark.parametrize(
    "error",
    [
        RetrieverUnavailable("refused"),
        RetrieverTimeout("slow"),
        RetrieverRejected("no", status=400, reason="too long"),
    ],
)
def test_09_retriever_error(error):
    played = play([ask("one"), ask("two")], passages("p"), error)
    check_invariants(played)
    trajectory = played.trajectory
    assert (trajectory.stop_reason, trajectory.n_searches) == (StopReason.RETRIEVER_ERROR, 1)
    assert [search.error for search in trajectory.searches] == ["", f"{type(error).__name__}: {error}"]
    assert trajectory.searches[1].query == "two" and trajectory.searches[1].passage_ids == ()


def test_09_a_bug_of_the_retriever_raises():
    with pytest.raises(ZeroDivisionError):
        play([ask("q")], ZeroDivisionError("bug"))


def test_10_overshoot_stays_in_ids_and_action_and_out_of_the_query():
    tokenizer = overshooting_tokenizer()
    played = play([ask("tower") + "\nX", say("x")], passages("p"), tokenizer=tokenizer)
    check_invariants(played)
    first = played.trajectory.of_kind(ACTION)[0]
    assert played.trajectory.ids[first.end - 1] == 257, "one token: the end of the tag, a newline and an X"
    assert first.text == ask("tower") + "\nX"
    assert played.retriever.requests[0].query == "tower"
    assert played.texts(DOCUMENTS)[0].startswith("\n\n<|begin_of_documents|>")


def test_11_sampled_ids_are_never_encoded_again():
    # "<answer>" letter by letter: encoding its text would give the single tag token instead.
    tokenizer = tag_tokenizer()
    letters = tuple(b"</think><answer>Paris</answer>")
    policy_ids = Turn(ids=letters)
    played = play([ask("q"), policy_ids], passages("p"), tokenizer=tokenizer)
    check_invariants(played)
    assert played.trajectory.ids[-len(letters) - 1 : -1] == letters
    assert played.trajectory.answer == "Paris"
    by_loop = [text for text in tokenizer.encoded if "Paris" in text]
    assert by_loop == [], "the answer's text went through encode()"


def test_12_base_prompt_is_the_file_with_the_question():
    played = play([say("x")], protocol=R1_SEARCHER_BASE)
    assert played.texts(PROMPT) == [prompt_text("r1_searcher_base.txt").replace("{question}", ROW.question)]
    assert played.texts(PROMPT)[0].endswith("User: Where is the tower?\nAssistant: <think>")


def test_12_chat_prompt_goes_through_the_template_and_ends_in_the_prefill():
    played = play([say("x")], protocol=R1_SEARCHER_CHAT)
    system = prompt_text("r1_searcher_chat_system.txt")
    assert played.texts(PROMPT) == [
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nWhere is the tower?<|im_end|>\n"
        "<|im_start|>assistant\n<think>"
    ]
    assert played.trajectory.action_ranges[0][0] == played.trajectory.spans[0].end, "the prefill is not trained"


def test_12_a_question_with_braces_and_a_placeholder_is_literal():
    row = replace(ROW, question="What does {question} or {0} or \\1 mean?")
    assert "Question : What does {question} or {0} or \\1 mean?\n" in play([say("x")], row=row).texts(PROMPT)[0]


def test_03_without_a_cap_the_tokens_are_the_limit():
    limits = replace(ROOMY, max_searches=None, max_length=1500)
    played = play([ask("q")] * 100, passages("p"), limits=limits)
    check_invariants(played)
    assert played.trajectory.stop_reason is StopReason.LENGTH
    assert played.trajectory.n_searches > ROOMY.max_searches


def test_14_concurrent_episodes_do_not_mix():
    tokenizer = tag_tokenizer()
    retriever = FakeRetriever([lambda request: passages(f"found {request.query}")], latency=0.001)
    environment = Environment(R1_SEARCHER_TINY, ROOMY, retriever, tokenizer)
    rows = [QARow(str(n), f"question {n}", (f"gold {n}",)) for n in range(64)]
    policies = [ScriptedPolicy(tokenizer, [ask(f"a{n}")] * (n % 4) + [say(f"answer {n}")]) for n in range(64)]

    async def all_at_once():
        return await asyncio.gather(*(run_episode(environment, r, p) for r, p in zip(rows, policies, strict=True)))

    for n, trajectory in enumerate(asyncio.run(all_at_once())):
        assert trajectory.row is rows[n] and trajectory.answer == f"answer {n}"
        assert [search.query for search in trajectory.searches] == [f"a{n}"] * (n % 4)
        blocks = [span.text for span in trajectory.of_kind(DOCUMENTS)]
        assert blocks == [BLOCK.format(f"(1) found a{n}\n")] * (n % 4)
        sampled = [trajectory.ids[start:end] for start, end in trajectory.action_ranges]
        assert sampled == policies[n].sampled
    assert all(
        request.context == {"row": rows[int(request.query[1:])], "progress": 0.0} for request in retriever.requests
    )


@pytest.mark.parametrize("word", ["Ελλάδα", "日本", "🗼🇫🇷", "e\u0301", "שלום", "a\u200bb", "\u2028x"])
def test_15_every_script_passes_through(word):
    row = replace(ROW, question=f"{word}?")
    played = play([ask(word), say(word)], passages(f"say {word}"), row=row, tokenizer=ByteTokenizer())
    check_invariants(played)
    assert f"Question : {word}?" in played.texts(PROMPT)[0]
    assert played.retriever.requests[0].query == " ".join(word.split())
    assert played.trajectory.answer == word.strip()


def test_15_bytes_that_are_no_text_stay_in_the_ids():
    played = play([Turn(ids=(0xF0, 0x9F, *say("x").encode()))], tokenizer=ByteTokenizer())
    check_invariants(played)
    assert played.trajectory.answer == "x" and played.texts(ACTION)[0].startswith("\ufffd")


def test_16_a_query_pair_in_a_turn_that_ended_otherwise_is_text():
    # The stop check is off, as where another stop wins: EOS, not the tag, ended the turn.
    class NeverStops(ScriptedPolicy):
        async def generate(self, ids, *, stops, max_tokens):
            return await super().generate(ids, stops=(), max_tokens=max_tokens)

    policy = NeverStops(tag_tokenizer(), [ask("q") + say("x")])
    retriever = FakeRetriever()
    environment = Environment(R1_SEARCHER_TINY, ROOMY, retriever, policy.tokenizer)
    trajectory = asyncio.run(run_episode(environment, ROW, policy))
    assert (trajectory.stop_reason, trajectory.answer, retriever.requests) == (StopReason.ANSWERED, "x", [])


def test_17_the_record_of_a_search():
    played = play([ask(' "the   tower"\n of\tParis '), say("x")], passages("one", "two"))
    (search,) = played.trajectory.searches
    assert (search.query, search.passage_ids, search.shown_ids) == (
        "the tower of Paris",
        ("p1", "p2"),
        ("p1", "p2"),
    )
    assert search.scores == (1.0, 0.5) and search.error == "" and search.seconds >= 0
    assert 0 < played.trajectory.engine_seconds <= played.trajectory.seconds


def test_17_without_logprobs_there_are_none():
    played = play([ask("q"), say("x")], passages("p"), with_logprobs=False)
    check_invariants(played)
    assert played.trajectory.logprobs is None


def test_18_what_the_retriever_is_asked():
    played = play([ask("q"), say("x")], passages("p"), limits=replace(ROOMY, top_k=7))
    (request,) = played.retriever.requests
    assert (request.query, request.top_k, request.context) == ("q", 7, {"row": ROW, "progress": 0.0})


def test_18_the_last_opening_tag_starts_the_query():
    played = play(["<|begin_of_query|>draft <|begin_of_query|>final<|end_of_query|>", say("x")], passages("p"))
    assert played.retriever.requests[0].query == "final"


def test_an_answer_in_a_turn_that_searches_is_no_answer_yet():
    played = play([say("early") + ask("q"), "nothing more"], passages("p"))
    assert (played.trajectory.stop_reason, played.trajectory.answer) == (StopReason.NO_ANSWER, None)


def test_the_policy_is_asked_to_stop_at_the_query_tag_only():
    assert play([say("x")]).policy.asked[0].stops == ("<|end_of_query|>",)
