"""Record and replay: what was searched once comes back offline, to the byte."""

from __future__ import annotations

import asyncio
import json
import resource
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever import (
    Hit,
    Passage,
    RetrieverBadResponse,
    RetrieverError,
    RetrieverRejected,
    RetrieverTimeout,
    RetrieverUnavailable,
    SearchRequest,
)
from retriever.interface import Health
from retriever.record import RecordingRetriever, ReplayRetriever

FAILURES = [
    RetrieverUnavailable("down", retry_after_s=3),
    RetrieverTimeout("slow"),
    RetrieverBadResponse("garbage"),
    RetrieverRejected("no", status=403, reason="forbidden"),
]


class Scripted:
    """Answers search n with outcome n."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.closed = 0

    async def search(self, request):
        await asyncio.sleep(0)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def health(self):
        return Health("ready", "scripted", 7)

    async def close(self):
        self.closed += 1


def hits(*texts):
    return tuple(Hit(Passage(f"p{n}", f"T{n}", text), 1 / (n + 2)) for n, text in enumerate(texts))


def about(question, query="q", top_k=3):
    return SearchRequest(query, top_k, {"row": SimpleNamespace(id="1", question=question, answers=("a",))})


def outcomes(retriever, *requests):
    async def one(request):
        try:
            return await retriever.search(request)
        except RetrieverError as error:
            return error

    async def every():
        return [await one(request) for request in requests]

    return asyncio.run(every())


def facts(outcome):
    if isinstance(outcome, RetrieverError):
        return type(outcome), str(outcome), getattr(outcome, "status", None), getattr(outcome, "reason", None)
    return outcome


def test_a_run_is_replayed_to_the_byte(tmp_path):
    path = tmp_path / "deep" / "run.jsonl"
    script = [hits("one", "zwei\n\u2028Zeilen", "\ud800 half a pair"), (), *FAILURES, hits("second time")]
    requests = [SearchRequest("q", 3), SearchRequest('"quoted"\n', 1), *(SearchRequest(f"f{n}", 3) for n in range(4))]
    requests.append(SearchRequest("q", 3))
    recorded = outcomes(RecordingRetriever(Scripted(*script), path), *requests)
    replayed = outcomes(ReplayRetriever(path), *requests)
    assert [*map(facts, replayed)] == [*map(facts, recorded)] and len(recorded) == 7
    assert len(ReplayRetriever(path)) == 7 == len(path.read_bytes().splitlines())
    again = tmp_path / "again.jsonl"
    outcomes(RecordingRetriever(ReplayRetriever(path), again), *requests)
    assert again.read_bytes() == path.read_bytes()


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(1, 2), st.text(max_size=5), st.floats(allow_nan=False)), max_size=8
    )
)
def test_any_sequence_of_searches_is_replayed(tmp_path_factory, searches):
    path = tmp_path_factory.mktemp("r") / "run.jsonl"
    found = [(Hit(Passage("i", text, text[::-1]), min(max(score, -1e308), 1e308)),) for _, _, text, score in searches]
    requests = [SearchRequest(query, top_k) for query, top_k, _, _ in searches]
    assert outcomes(RecordingRetriever(Scripted(*found), path), *requests) == found
    assert outcomes(ReplayRetriever(path), *requests) == found


def test_equal_queries_of_different_questions_are_different_requests(tmp_path):
    path = tmp_path / "run.jsonl"
    outcomes(RecordingRetriever(Scripted(hits("x"), hits("y")), path), about("X?"), about("Y?"))
    assert outcomes(ReplayRetriever(path), about("Y?"), about("X?")) == [hits("y"), hits("x")]


def test_the_order_is_that_of_asking_not_of_answering(tmp_path):
    path, gate = tmp_path / "run.jsonl", None

    class Slow(Scripted):
        async def search(self, request):
            found = self.outcomes.pop(0)
            if found == hits("first"):
                await gate.wait()
            else:
                gate.set()
            return found

    async def record():
        nonlocal gate
        gate = asyncio.Event()
        recorder = RecordingRetriever(Slow(hits("first"), hits("second")), path)
        return await asyncio.gather(recorder.search(about("X?")), recorder.search(about("X?")))

    assert asyncio.run(record()) == [hits("first"), hits("second")]
    assert [json.loads(line)["turn"] for line in path.read_text().splitlines()] == [1, 0]
    replay = ReplayRetriever(path)
    assert outcomes(replay, *[about("X?")] * 3) == [hits("first"), hits("second"), hits("first")]


def test_what_was_not_recorded_is_named(tmp_path):
    path = tmp_path / "run.jsonl"
    outcomes(RecordingRetriever(Scripted(hits("x")), path), about("X?", "the query"))
    for request in (about("X?", "other query"), about("Other?", "the query"), about("X?", "the query", 9)):
        (error,) = outcomes(ReplayRetriever(path), request)
        assert isinstance(error, RetrieverRejected) and error.status == 404 and not error.transient
        assert repr(request.query) in str(error) and str(request.top_k) in str(error) and str(path) in str(error)


def test_a_recording_is_continued_also_after_a_kill(tmp_path):
    path = tmp_path / "run.jsonl"
    outcomes(RecordingRetriever(Scripted(hits("x")), path), about("X?"))
    whole = path.read_bytes()
    for left in (b'{"query": "q", "to', b"{"):
        path.write_bytes(whole + left)
        assert len(ReplayRetriever(path)) == 1
        outcomes(RecordingRetriever(Scripted(hits("y")), path), about("X?"))
        assert outcomes(ReplayRetriever(path), *[about("X?")] * 2) == [hits("x"), hits("y")]


@pytest.mark.parametrize(
    "content",
    ["not json\n", "[]\n", '{"query": "q"}\n', '{"query": "q", "top_k": 1, "question": "", "turn": 0}\n',
     '{"query": "q", "top_k": 1, "question": "", "turn": 0, "results": []}\n', "a novel without a line end"],
)  # fmt: skip
def test_a_file_that_is_no_recording_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    for attempt in (lambda: ReplayRetriever(path), lambda: RecordingRetriever(Scripted(), path)):
        with pytest.raises(ValueError, match=r"x\.jsonl, line 1: not a recorded search"):
            attempt()
    assert path.read_text() == content


def test_a_missing_or_unwritable_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="recording not found"):
        ReplayRetriever(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="cannot record"):
        RecordingRetriever(Scripted(), tmp_path)


def test_a_full_disk_fails_the_search_and_leaves_a_whole_file(tmp_path):
    path = tmp_path / "run.jsonl"
    recorder = RecordingRetriever(Scripted(hits("x"), hits("y")), path)
    assert outcomes(recorder, about("X?")) == [hits("x")]
    whole = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 9, before[1]))  # behaves as a disk with room for 9 bytes
    try:
        (error,) = outcomes(recorder, about("X?"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert isinstance(error, RetrieverUnavailable) and "No space left" in str(error)
    assert path.read_bytes() == whole


def test_health_and_close_reach_the_recorded_retriever(tmp_path):
    inner = Scripted()
    recorder = RecordingRetriever(inner, tmp_path / "run.jsonl")
    assert asyncio.run(recorder.health()).index == "scripted"
    asyncio.run(recorder.close())
    assert inner.closed == 1
    replay = ReplayRetriever(tmp_path / "run.jsonl")
    assert asyncio.run(replay.health()).status == "ready"
