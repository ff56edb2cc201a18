"""From real searches to a simulator's training data: pairs, verdicts, rows, and the command around them."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest
from support.episodes.fakes import passages, play, turn_that_answers, turn_that_asks

from data_prep.simulator.labels import DocumentCase, by_model, by_rule
from data_prep.simulator.pairs import SearchPair, find_episodes, mixed_blocks, pairs_of, unique
from data_prep.simulator.rows import holds, sft_rows
from data_prep.simulator_data import main
from data_prep.tiny.dialects import find_dialect
from data_prep.tiny.simulator import MODE, RECIPE, write_searches
from foundation.chat.endpoint import EndpointConfig
from foundation.errors import InputError
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import SearchRecord, SpanKind, StopReason, TrajectoryRecorder
from r1_searcher.episode.trajectory_json import to_mapping
from r1_searcher.recipe.protocols import find_protocol
from r1_searcher.recipe.recipe import find_recipe
from retriever.simulated.prompts import SimulatedSearch, parse_documents, simulator_messages

PROTOCOL = find_protocol("search_r1")
ROW = QARow("q", "Who built the tower?", ("Eiffel",))


def record(query="tower builder", ids=("d1", "d2"), error=""):
    return SearchRecord(query, tuple(ids), tuple(ids), (1.0,) * len(ids), 0.1, error)


def episode(*searches, row=ROW, documents=("Eiffel built it.", "A tower is high.")):
    """A trajectory that made these searches; each brought the same documents."""
    recorder = TrajectoryRecorder(row)
    recorder.append(SpanKind.PROMPT, [1], "prompt")
    for search in searches:
        recorder.append(SpanKind.ACTION, [2], f"<search>{search.query}</search>", [0.0])
        recorder.searches.append(search)
        if not search.error:
            lines = [
                PROTOCOL.passage_format.format(rank=rank, title="T", text=text)
                for rank, text in enumerate(documents, start=1)
            ]
            block = f"{PROTOCOL.before_documents}{PROTOCOL.passage_separator.join(lines)}{PROTOCOL.after_documents}"
            recorder.append(SpanKind.DOCUMENTS, [3], block)
    return recorder.finish(StopReason.ANSWERED, answer="x")


def test_a_pair_has_the_documents_as_the_policy_saw_them():
    first, second = pairs_of(episode(record(), record(" more\n words ")), PROTOCOL)
    assert [pair.query for pair in (first, second)] == ["tower builder", "more words"]
    assert len(first.documents) == 2
    assert first.documents[0].endswith("Eiffel built it.") and "Doc 1" not in first.documents[0]
    assert (first.last, second.last) == (False, True)
    assert (first.question, first.answers) == (ROW.question, ROW.answers)


@pytest.mark.parametrize(
    "search",
    [record(ids=("simulated/useful/1",)), record(query=" \n"), record(error="RetrieverTimeout: slow")],
    ids=["simulated", "empty query", "failed"],
)
def test_no_pair_is_made_of(search):
    assert list(pairs_of(episode(search), PROTOCOL)) == []


def test_a_failed_search_does_not_shift_the_documents_of_the_next_one():
    (pair,) = pairs_of(episode(record("lost", error="RetrieverTimeout: slow"), record("found")), PROTOCOL)
    assert pair.query == "found" and pair.last


def about(request):
    """What a search finds: a passage about its query."""
    return passages(f'about "{request.query}"')


def test_each_query_of_a_tool_call_gets_its_own_documents():
    protocol = find_protocol("deep_researcher")
    turns = [turn_that_asks(protocol, "alpha", "beta"), turn_that_asks(protocol, "gamma")]
    trajectory = play([*turns, turn_that_answers(protocol, "x")], about, protocol=protocol).trajectory
    assert [(pair.query, pair.documents, pair.last) for pair in pairs_of(trajectory, protocol)] == [
        ("alpha", ('T1 about "alpha"',), False),
        ("beta", ('T1 about "beta"',), False),
        ("gamma", ('T1 about "gamma"',), True),
    ]
    assert mixed_blocks(trajectory, protocol) == 0


def test_pages_that_were_read_are_no_documents_of_a_search():
    protocol = find_protocol("deep_researcher")
    turns = [turn_that_asks(protocol, "alpha"), turn_that_asks(protocol, "https://a.example", tool=1)]
    played = play([*turns, turn_that_answers(protocol, "x")], about, protocol=protocol, pages=(passages("a page"),))
    assert [pair.query for pair in pairs_of(played.trajectory, protocol)] == ["alpha"]


def of_an_own_agent(*turns):
    """A trajectory whose agent searched these queries before each of its further turns."""
    recorder = TrajectoryRecorder(ROW)
    recorder.append(SpanKind.PROMPT, [1], "prompt")
    for queries in turns:
        recorder.append(SpanKind.ACTION, [2], "I search.", [0.0])
        recorder.searches += [record(query, ids=(f"of {query}",)) for query in queries]
        recorder.append(SpanKind.DOCUMENTS, [3], "\n".join(f"about {query}" for query in queries))
    return recorder.finish(StopReason.ANSWERED, answer="x")


def test_what_several_searches_of_an_own_agent_found_is_left_out_and_counted():
    protocol = find_protocol("own_agent")
    one_each, mixed = of_an_own_agent(["alpha"], ["beta"]), of_an_own_agent(["alpha", "beta"], ["gamma"])
    assert [(pair.query, pair.documents) for pair in pairs_of(one_each, protocol)] == [
        ("alpha", ("about alpha",)),
        ("beta", ("about beta",)),
    ]
    assert (list(pairs_of(mixed, protocol)), mixed_blocks(mixed, protocol)) == ([], 2)


def test_equal_pairs_are_kept_once_and_stay_the_last_of_some_episode():
    pair = SearchPair("q", ("a",), "x y", ("d",), last=False)
    assert unique([pair, replace(pair, last=True), pair, replace(pair, query="z")]) == [
        replace(pair, last=True),
        replace(pair, query="z"),
    ]


@pytest.mark.parametrize(
    ("documents", "last", "useful"),
    [
        (("The Bim Tal director is Xo.",), False, True),  # all words of the query
        (("Bim Tal was here.", "A director."), False, False),  # all words, but of two documents
        (("Somebody is Xo Ru.",), True, True),  # a gold answer after the last search
        (("Somebody is Xo Ru.",), False, False),  # a gold answer where none is due
        (("Somebody is Xo.",), True, False),
    ],
)
def test_the_rule(documents, last, useful):
    assert by_rule(SearchPair("?", ("Xo Ru",), "Bim Tal director", documents, last)) is useful


def test_words_that_are_not_there_are_held_by_nothing():
    assert not holds("anything", ()) and holds("Some Thing.", ("thing", "some"))


PAIRS = [
    SearchPair(f"What is the home of {name} ?", (town,), f"{name} home", (f"{name} home {town} .",), last=True)
    for name, town in (("Ada", "Town0"), ("Bob", "Town1"), ("Cyd", "Town2"), ("Dan", "Town3"))
]


def rows_by_prompt(rows):
    return {row["messages"][1]["content"]: row["messages"] for row in rows}


@pytest.mark.parametrize("mode", ["sft", "short"])
def test_rows_are_what_the_simulator_will_be_asked_and_what_is_read_of_its_answer(mode):
    rows = rows_by_prompt(sft_rows(PAIRS, [True] * 4, mode, Random(0)))
    assert len(rows) == 8
    for pair in PAIRS:
        for useful in (True, False):
            asked = simulator_messages(SimulatedSearch(pair.query, pair.question, pair.answers, useful), mode)
            *prompt, answer = rows[asked[1]["content"]]
            assert prompt == asked and answer["role"] == "assistant"
            read = parse_documents(answer["content"])
            assert (tuple(read) == pair.documents) is useful
            assert any(pair.answers[0] in document for document in read) is useful


def test_what_does_not_answer_is_noise_and_what_nobody_judged_is_nothing():
    rows = sft_rows(PAIRS, [False, None, None, None], "short", Random(0))
    ((row),) = rows
    assert row["messages"][1]["content"].startswith("noisy Ada home")
    assert row["messages"][2]["content"] == "Doc 1: Ada home Town0 ."


def test_noise_is_left_out_where_there_is_nothing_else():
    assert len(sft_rows(PAIRS[:1], [True], "short", Random(0))) == 1


# --- the judge ---


def test_a_model_as_judge_is_asked_once_and_not_about_golds(tmp_path, scripted_judge):
    url, asked = scripted_judge(lambda prompt: "maybe" if "Cyd" in prompt else str("Ada" in prompt))
    config = EndpointConfig(url, "judge")
    expected = [True, False, None, False]
    assert by_model(PAIRS, config, tmp_path / "verdicts.jsonl") == expected
    assert len(asked) == 4 and all("Query: " in prompt and "What is the home" not in prompt for prompt in asked)
    assert by_model(PAIRS, config, tmp_path / "verdicts.jsonl") == expected
    assert len(asked) == 5, "only what had no verdict is asked again"


def test_nobody_at_the_endpoint(tmp_path):
    with pytest.raises(InputError, match="does not answer"):
        by_model(PAIRS, EndpointConfig("http://127.0.0.1:9", "judge"), tmp_path / "verdicts.jsonl")


def test_the_case_of_a_pair_shows_query_and_documents():
    message = DocumentCase.of(PAIRS[0]).message
    assert "Query: Ada home\n" in message and "Ada home Town0 ." in message


@pytest.fixture
def scripted_judge():
    """Serves a judge whose replies a function makes; gives the address and the prompts that it was sent."""
    import threading

    from flask import Flask, request
    from werkzeug.serving import make_server

    servers = []

    def start(reply):
        app, asked = Flask("judge"), []

        @app.get("/v1/models")
        def models():
            return {"data": [{"id": "judge"}]}

        @app.post("/v1/chat/completions")
        def chat():
            asked.append(request.get_json()["messages"][0]["content"])
            message = {"role": "assistant", "content": reply(asked[-1])}
            return {"id": "1", "object": "chat.completion", "created": 0, "model": "judge",
                    "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}  # fmt: skip

        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", asked

    yield start
    for server in servers:
        server.shutdown()


# --- the command ---


@pytest.fixture(scope="module")
def searches(tmp_path_factory):
    """Scripted episodes of the tiny world against a real index, as the tiny simulator learns from."""
    from data_prep.tiny import simulator as tiny_simulator

    folder = tmp_path_factory.mktemp("searches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_simulator, "SCRIPTED_WORLDS", 1)
        write_searches(find_dialect(find_recipe(RECIPE).protocol.name), folder, 0)
    return folder


def test_scripted_episodes_searched_for_real(searches):
    episodes = find_episodes(searches)
    trajectories = [record.trajectory for record in episodes.read()]
    pairs = [pair for trajectory in trajectories for pair in pairs_of(trajectory, episodes.protocol)]
    assert len(trajectories) == 176
    assert len(pairs) == sum(trajectory.n_searches for trajectory in trajectories) > 150
    assert sum(map(by_rule, pairs)) == len(pairs)


def test_the_command_counts_and_writes(searches, tmp_path):
    out = tmp_path / "data"
    assert main([str(searches), "--judge", "rule", "--mode", MODE, "--out", str(out)]) == 0
    counts = json.loads((out / "counts.json").read_text())
    pairs = [json.loads(line) for line in (out / "pairs.jsonl").open()]
    rows = (out / "sft.jsonl").read_bytes()
    assert counts["episodes"] == 176 and counts["pairs"] == len(pairs) == counts["useful"] + counts["noisy"]
    assert counts["rows"] == rows.count(b"\n") and {pair["label"] for pair in pairs} <= {"useful", "noisy"}
    assert main([str(searches), "--judge", "rule", "--mode", MODE, "--out", str(out)]) == 0
    assert (out / "sft.jsonl").read_bytes() == rows, "the same seed writes the same rows"


def test_an_evaluations_folder_is_a_source_too(tmp_path):
    (tmp_path / "scores.json").write_text(json.dumps({"provenance": {"recipe": {"protocol": "search_r1"}}}))
    (tmp_path / "predictions.jsonl").write_text(json.dumps(to_mapping(episode(record()))) + "\n")
    episodes = find_episodes(tmp_path)
    assert episodes.protocol.name == "search_r1" and len(list(episodes.read())) == 1


def test_the_command_says_how_many_blocks_it_leaves_out(tmp_path, caplog):
    (tmp_path / "scores.json").write_text(json.dumps({"provenance": {"recipe": {"protocol": "own_agent"}}}))
    episodes = [of_an_own_agent(["alpha", "beta"]), of_an_own_agent(["Eiffel"])]
    lines = [json.dumps(to_mapping(each)) + "\n" for each in episodes]
    (tmp_path / "predictions.jsonl").write_text("".join(lines))
    assert main([str(tmp_path), "--judge", "rule", "--out", str(tmp_path / "out")]) == 0
    counts = json.loads((tmp_path / "out" / "counts.json").read_text())
    assert (counts["mixed_blocks"], counts["pairs"]) == (1, 1)
    assert "1 document blocks are left out" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--judge", "rule"], "holds no episodes"),
        (["--judge", "oracle"], "invalid choice"),
        (["--judge", "rule", "--mode", "long"], "invalid choice"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, capsys, arguments, said):
    out = tmp_path / "out"
    try:
        status = main([str(tmp_path), "--out", str(out), *arguments])
    except SystemExit as exit_:
        status = exit_.code
    err = capsys.readouterr().err
    assert status == 2 and said in err and err.count("\n") == 1 and not out.exists()


def test_the_judge_llm_needs_an_endpoint(searches, tmp_path, capsys):
    assert main([str(searches), "--out", str(tmp_path / "out")]) == 2
    assert "--judge-url" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_episodes_that_never_searched_for_real(tmp_path, capsys):
    (tmp_path / "run.json").write_text(json.dumps({"recipe": find_recipe("search_r1").to_mapping()}))
    (tmp_path / "trajectories").mkdir()
    line = json.dumps(to_mapping(episode(record(ids=("simulated/noisy/1",)))))
    (tmp_path / "trajectories" / "1.jsonl").write_text(line + "\n")
    assert main([str(tmp_path), "--judge", "rule", "--out", str(tmp_path / "out")]) == 2
    assert "no real search in 1 episodes" in capsys.readouterr().err
