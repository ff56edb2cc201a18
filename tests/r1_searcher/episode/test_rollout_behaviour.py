"""What the episode loop promises. Breaking one of these is a decision, not a test to fix.

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
from r1_searcher.episode.trajectory import SpanKind, StopReason
from r1_searcher.recipe.protocols import R1_SEARCHER_BASE, R1_SEARCHER_CHAT, R1_SEARCHER_TINY
from retriever.errors import RetrieverRejected, RetrieverTimeout, RetrieverUnavailable

ACTION, DOCUMENTS, FEEDBACK, PROMPT = SpanKind.ACTION, SpanKind.DOCUMENTS, SpanKind.FEEDBACK, SpanKind.PROMPT
BLOCK = "\n\n<|begin_of_documents|>\n{}<|end_of_documents|>\n\n"


def kinds(played) -> list[SpanKind]:
    return [span.kind for span in played.trajectory.spans]


def test_01_search_then_documents_then_answer():
    played = play([ask("tower"), say("Paris")], passages("It is in Paris."))
    check_invariants(played)
    assert kinds(played) == [PROMPT, ACTION, DOCUMENTS, ACTION]
    assert played.texts(DOCUMENTS) == [BLOCK.format("(1) It is in Paris.\n")]
    assert (played.trajectory.stop_reason, played.trajectory.answer) == (StopReason.ANSWERED, "Paris")
    assert played.policy.asked[1].ids == played.trajectory.ids[: played.trajectory.spans[3].start]


def test_02_two_searches_get_their_own_documents():
    played = play([ask("one"), ask("two"), say("x")], passages("first"), passages("second", "third"))
    check_invariants(played)
    assert kinds(played) == [PROMPT, ACTION, DOCUMENTS, ACTION, DOCUMENTS, ACTION]
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


def test_06_budget_of_the_turn():
    played = play([Turn(say("early"), rambles=True)], limits=replace(ROOMY, turn_tokens=40))
    check_invariants(played)
    assert (played.trajectory.stop_reason, played.trajectory.answer) == (StopReason.LENGTH, "early")
    assert played.trajectory.token_count(ACTION) == 40


def test_06_a_half_written_query_at_the_budget_is_no_search():
    played = play([Turn("<|begin_of_query|>" + "long " * 50)], limits=replace(ROOMY, turn_tokens=30))
    assert (played.trajectory.stop_reason, played.retriever.requests) == (StopReason.LENGTH, [])


def test_06_a_stop_string_completed_by_the_last_token_of_the_budget_is_a_search():
    played = play([ask("abc"), say("x")], passages("p"), limits=replace(ROOMY, turn_tokens=5))
    assert [request.query for request in played.retriever.requests] == ["abc"]


def test_06_budget_of_the_episode():
    prompt = play([say("x")]).trajectory.token_count(PROMPT)
    limits = replace(ROOMY, max_length=prompt + 70, answer_tokens=10)
    played = play([Turn("", rambles=True)], limits=limits)
    check_invariants(played)
    assert (played.trajectory.stop_reason, len(played.trajectory.ids)) == (StopReason.LENGTH, prompt + 70)


@pytest.mark.parametrize("over", [0, 1, 100])
def test_06_a_prompt_that_fills_the_episode_never_reaches_the_policy(over):
    prompt = play([say("x")]).trajectory.token_count(PROMPT)
    played = play([], limits=replace(ROOMY, max_length=prompt - over if over < prompt else 2, answer_tokens=1))
    assert (played.trajectory.stop_reason, played.policy.asked) == (StopReason.LENGTH, [])
    assert played.trajectory.action_ranges == []


def _room_behind_query(tokens: int, answer_tokens: int = 10):
    """Limits with exactly this many tokens free for documents after `ask("q")`."""
    used = len(play([ask("q"), say("x")]).policy.asked[1].ids) - len(tag_tokenizer().encode(BLOCK.format("None")))
    return replace(ROOMY, max_length=used + tokens + answer_tokens, answer_tokens=answer_tokens)


def test_07_whole_passages_are_left_out_and_tags_stay():
    block = BLOCK.format("(1) short\n")
    room = len(tag_tokenizer().encode(block))
    played = play([ask("q"), say("x")], passages("much longer than there is room for", "short"),
                  limits=_room_behind_query(room))  # fmt: skip
    check_invariants(played)
    assert played.texts(DOCUMENTS) == [block]
    (search,) = played.trajectory.searches
    assert (search.passage_ids, search.shown_ids) == (("p1", "p2"), ("p2",))
    assert played.policy.asked[1].max_tokens == 10, "the reserve for the answer is untouched"


def test_07_one_token_less_and_the_passage_is_out():
    room = len(tag_tokenizer().encode(BLOCK.format("(1) short\n")))
    played = play([ask("q"), say("x")], passages("short"), limits=_room_behind_query(room - 1))
    assert played.texts(DOCUMENTS) == [BLOCK.format("None")]
    assert played.trajectory.searches[0].shown_ids == ()


def test_07_no_room_for_the_tags_ends_the_episode():
    room = len(tag_tokenizer().encode(BLOCK.format("None"))) - 1
    played = play([ask("q")], passages("p"), limits=_room_behind_query(room))
    check_invariants(played)
    assert (played.trajectory.stop_reason, played.trajectory.n_searches) == (StopReason.LENGTH, 0)
    assert played.trajectory.searches[0].passage_ids == ("p1",), "the search was made and is on record"


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


FEEDBACK_TEXT = "\nThat was no query. Try again.\n"
FORGIVING = replace(R1_SEARCHER_TINY, name="forgiving", forgiving=True, feedback=FEEDBACK_TEXT)


def test_13_feedback_lets_the_policy_try_again():
    played = play([ask(""), ask("q"), say("x")], passages("p"), protocol=FORGIVING)
    check_invariants(played)
    assert kinds(played) == [PROMPT, ACTION, FEEDBACK, ACTION, DOCUMENTS, ACTION]
    assert played.texts(FEEDBACK) == [FEEDBACK_TEXT]
    assert (played.trajectory.stop_reason, played.trajectory.n_searches) == (StopReason.ANSWERED, 1)


def test_13_feedback_for_ever_ends_at_the_length():
    limits = replace(ROOMY, max_length=400, max_searches=None)
    played = play([ask("")] * 50, protocol=FORGIVING, limits=limits)
    check_invariants(played)
    assert played.trajectory.stop_reason is StopReason.LENGTH
    assert len(played.texts(FEEDBACK)) > ROOMY.max_searches
    assert played.trajectory.spans[-1].kind is ACTION, "feedback that nothing can follow is not inserted"


def test_13_feedback_for_ever_ends_at_the_cap():
    played = play([ask("")] * 50, protocol=FORGIVING, limits=replace(ROOMY, max_searches=3))
    check_invariants(played)
    assert kinds(played) == [PROMPT, *[ACTION, FEEDBACK] * 3, ACTION]
    assert played.trajectory.stop_reason is StopReason.INVALID_ACTION


@pytest.mark.parametrize("turns", [["Hm.", ask("q"), ask("")], [ask(""), "Hm.", ask("q")], [ask("q"), ask("q"), "Hm."]])
def test_13_searches_and_corrections_share_one_cap(turns):
    played = play([*turns, ask("one more")], passages("p"), protocol=FORGIVING, limits=replace(ROOMY, max_searches=3))
    check_invariants(played)
    assert played.trajectory.stop_reason is StopReason.SEARCH_LIMIT
    assert [request.query for request in played.retriever.requests] == ["q"] * turns.count(ask("q"))


def test_13_a_turn_without_an_action_is_corrected_too():
    played = play(["I wonder.", Turn("x" * 30), say("y")], protocol=FORGIVING, limits=replace(ROOMY, turn_tokens=20))
    check_invariants(played)
    assert kinds(played) == [PROMPT, ACTION, FEEDBACK, ACTION, FEEDBACK, ACTION]
    assert played.trajectory.ids[played.trajectory.spans[1].end - 1] == 256, "the EOS was sampled and stays"
    assert played.trajectory.stop_reason is StopReason.ANSWERED


def test_13_an_empty_correction_lets_the_policy_go_on_after_an_unusable_query_only():
    silent = replace(R1_SEARCHER_TINY, name="silent", forgiving=True)
    played = play([ask(""), ask("q"), "I give up."], passages("p"), protocol=silent)
    check_invariants(played)
    assert kinds(played) == [PROMPT, ACTION, ACTION, DOCUMENTS, ACTION]
    assert played.trajectory.stop_reason is StopReason.NO_ANSWER
    endless = play([ask("")] * 50, protocol=silent, limits=replace(ROOMY, max_searches=None, max_length=100))
    check_invariants(endless)
    assert endless.trajectory.stop_reason is StopReason.LENGTH


def test_03_without_a_cap_the_tokens_are_the_limit():
    limits = replace(ROOMY, max_searches=None, max_length=1500)
    played = play([ask("q")] * 100, passages("p"), limits=limits)
    check_invariants(played)
    assert played.trajectory.stop_reason is StopReason.LENGTH
    assert played.trajectory.n_searches > ROOMY.max_searches


@pytest.mark.parametrize("room", range(0, 40))
def test_13_feedback_is_inserted_only_where_a_token_can_follow(room):
    start = len(play([ask("")]).trajectory.ids)
    limits = replace(ROOMY, max_length=start + room, answer_tokens=1)
    played = play([ask(""), say("x")], protocol=FORGIVING, limits=limits)
    check_invariants(played)
    assert bool(played.texts(FEEDBACK)) == (room > len(FEEDBACK_TEXT)) == (len(played.policy.asked) == 2)
    assert played.trajectory.spans[-1].kind is ACTION


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
