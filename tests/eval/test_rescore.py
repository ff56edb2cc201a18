"""eval.rescore: the published servers' totals on every published row, our own rows, and what differs and why."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from support.episodes.fakes import ROOMY, ask, passages, play, say, turn_that_answers, turn_that_asks
from support.episodes.transcripts import SIZES, needs_published, server_scores, transcript_file
from support.runs.run_folders import append_lines, episode_line

from eval.report.runs import find_runs
from eval.rescore import default_protocol, main
from foundation.errors import InputError
from r1_searcher.episode.trajectory_json import to_mapping
from r1_searcher.recipe.protocols import PROTOCOLS
from r1_searcher.recipe.recipe import RECIPES, Recipe
from r1_searcher.reward.rewards import REWARDS, compose
from r1_searcher.run.run_config import RetrieverConfig, RunConfig
from r1_searcher.run.scorers import InProcessReward
from retriever.errors import RetrieverUnavailable

DOCUMENTS = "\n\n<|begin_of_documents|>\n(1)An assistant coach.\n<|end_of_documents|>\n\n"
SEARCHED = f"I look. <|begin_of_query|>coach<|end_of_query|>{DOCUMENTS}So.</think> <answer>Paris</answer>"


def write(folder: Path, name: str, *completions: str) -> Path:
    file = folder / name
    rows = [{"question": f"{name} {n}?", "answer": "Paris", "completion": text} for n, text in enumerate(completions)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def rescored(tmp_path: Path, *arguments: object) -> dict:
    out = tmp_path / "out.json"
    assert main([*map(str, arguments), "--json", str(out)]) == 0
    return json.loads(out.read_text())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("bamboogle_qwen", "hotpotqa_llama", marks=needs_published),
        ("made_up_llama", "made_up_qwen"),
    ],
)
@pytest.mark.parametrize(
    ("reward", "server"),
    [
        ("r1_searcher.base_code", "qwen_zero"),
        ("r1_searcher.llama_stage1_code", "llama_stage1"),
        ("r1_searcher.llama_stage2_code", "llama_stage2"),
    ],
)
def test_published_scores_on_every_row(reward, server, first, second, tmp_path, capsys):
    one, other = (server_scores(server, run) for run in (first, second))
    folder = transcript_file(first).parent
    assert rescored(tmp_path, folder, "--reward", reward)["scores"] == one + other  # a folder: in order of names
    found = rescored(tmp_path, transcript_file(second), transcript_file(first), "--reward", reward)
    assert found["scores"] == other + one
    assert (found["reward"], found["n"]) == (reward, SIZES[first] + SIZES[second])
    assert f"{reward} on {found['n']} trajectories" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("run", "fired", "differing", "rows"),
    [
        pytest.param("bamboogle_qwen", 22, 21, 625, marks=needs_published),
        ("made_up_qwen", 8, 4, 40),
    ],
)
def test_the_default_differs_from_the_mirror_for_innocent_passages_only(run, fired, differing, rows, tmp_path, capsys):
    folder = transcript_file(run).parent
    found = rescored(tmp_path, folder, "--reward", "r1_searcher.base_code", "--compare", "r1_searcher.stage2")
    assert found["rules"]["no_role_words"] == fired
    assert found["compare"]["reasons"] == {"only the first reward fired no_role_words": differing}
    assert len(found["compare"]["differing"]) == differing
    printed = capsys.readouterr().out
    assert f"differ on {differing} of {rows}" in printed and f"{run}.jsonl:" in printed


def test_totals_in_order_tally_and_reason(tmp_path, capsys):
    file = write(tmp_path, "a.jsonl", SEARCHED, "<answer>Paris</answer>", "So.</think> <answer>Rome</answer>")
    found = rescored(tmp_path, file, "--reward", "r1_searcher.stage2", "--compare", "r1_searcher.base_code")
    assert found["scores"] == [1.0, -1.0, 0.0]
    assert (found["rules"]["think_closed_once"], found["rules"]["one_answer"], found["rules"]["no_cjk"]) == (1, 1, 0)
    assert found["compare"]["scores"] == [-1.0, -1.0, 0.0]
    assert found["compare"]["reasons"] == {"only the second reward fired no_role_words": 1}
    printed = capsys.readouterr().out
    assert "1 x only the second reward fired no_role_words" in printed and "a.jsonl:1  1 / -1  a.jsonl 0?" in printed


def test_a_verdict_counts_and_a_missing_one_is_told(tmp_path, caplog):
    rows = [
        {"question": "Where?", "answer": "Paris", "completion": SEARCHED, "judge": verdict} for verdict in (False, True)
    ]
    judged, unjudged = tmp_path / "judged.jsonl", tmp_path / "unjudged.jsonl"
    judged.write_text("".join(json.dumps(row) + "\n" for row in rows))
    unjudged.write_text("".join(json.dumps({key: row[key] for key in row if key != "judge"}) + "\n" for row in rows))
    asked = ("--protocol", "r1_searcher.base", "--reward", "judge=1")
    assert rescored(tmp_path, judged, *asked)["scores"] == [0.0, 1.0]
    assert not caplog.records
    assert rescored(tmp_path, unjudged, *asked)["scores"] == [1.0, 1.0]
    assert "no judge is asked here; exact match stands in for its verdict" in caplog.text


def test_our_own_rows_keep_who_wrote_what(tmp_path):
    found_coach = passages("An assistant coach.")
    right = play([ask("coach"), say("Paris")], found_coach).trajectory
    failed = play([ask("coach")], RetrieverUnavailable("down")).trajectory
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(to_mapping(each)) + "\n" for each in (right, failed)))
    found = rescored(tmp_path, file, "--reward", "r1_searcher.stage2")
    assert (found["scores"], found["retriever_errors"]) == ([1.0, 0.0], 1)
    assert set(found["rules"].values()) == {0}


def test_a_run_is_its_episodes(tmp_path):
    """Its other JSON lines are none."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n')
    append_lines(tmp_path / "trajectories" / "0.jsonl", episode_line("1", 1.0, "Paris"))
    assert rescored(tmp_path, tmp_path, "--reward", "r1_searcher.stage2")["n"] == 1


def test_list_names_every_reward(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(REWARDS)


def test_without_a_folder_the_protocol_is_that_of_the_rewards_recipe():
    for recipe in {recipe.reward.name: recipe for recipe in reversed(RECIPES.values())}.values():
        assert default_protocol(recipe.reward, []) == recipe.protocol
    assert default_protocol(REWARDS["r1_searcher.base_code"], []).name == "r1_searcher.base"
    for unknown in (REWARDS["zerosearch.containment"], compose("f1=1")):
        with pytest.raises(InputError, match="pass --protocol"):
            default_protocol(unknown, [])


COMPOSED = "f1=1,format_broken=-2,format_kept=0.5"


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_a_composed_reward_is_that_of_the_training_under_every_protocol(protocol, tmp_path):
    """Also what the report explains: the rules that the training checked."""
    recipe = Recipe("own", protocol, compose(COMPOSED), ROOMY)
    searched = [turn_that_asks(protocol, "tower"), turn_that_answers(protocol, "Paris")]
    episodes = [
        play(turns, passages("In Paris."), protocol=protocol).trajectory
        for turns in (searched, [f"{protocol.answer.open}Paris{protocol.answer.close}"])
    ]
    trained = [asyncio.run(InProcessReward(recipe).score(episode)) for episode in episodes]
    folder = tmp_path / "run"
    (folder / "trajectories").mkdir(parents=True)
    RunConfig(str(folder), recipe, RetrieverConfig("http://x")).write(folder / "run.json")
    lines = "".join(json.dumps(to_mapping(episode)) + "\n" for episode in episodes)
    (folder / "trajectories" / "1.jsonl").write_text(lines)
    found = rescored(tmp_path, folder / "trajectories", "--reward", COMPOSED)
    assert found["protocol"] == protocol.name
    assert found["scores"] == [round(result.total, 6) for result in trained]
    (reported,) = find_runs([folder])
    assert set(reported.rules) == set(found["rules"]) == set(trained[0].rules) == set(protocol.format)
    # Of an own agent no more is asked than an answer, which both give.
    assert len(set(found["scores"])) == (1 if set(protocol.format) == {"answered"} else 2), "one is not well-formed"


def test_trajectories_of_several_protocols_are_refused(tmp_path, capsys):
    for name in ("tiny.stage2", "tiny.search_r1"):
        (tmp_path / name / "trajectories").mkdir(parents=True)
        RunConfig("", RECIPES[name], RetrieverConfig("http://x")).write(tmp_path / name / "run.json")
        write(tmp_path / name / "trajectories", "1.jsonl", SEARCHED)
    assert main([*(str(tmp_path / name) for name in ("tiny.stage2", "tiny.search_r1")), "--reward", "f1=1"]) == 2
    assert "r1_searcher.tiny, search_r1.tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--reward"),
        (["--reward", "none"], "unknown reward"),
        (["--reward", "r1_searcher.stage2", "--compare", "none"], "unknown reward"),
        (["--reward", "r1_searcher.stage2", "--protocol", "none"], "unknown protocol"),
        (["--reward", "r1_searcher.stage2", "--json", "/nowhere/o.json"], "existing folder"),
    ],
)
def test_bad_arguments(arguments, complaint, tmp_path, capsys):
    assert main([str(write(tmp_path, "a.jsonl", SEARCHED)), *arguments]) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{not json\n", "line 1: not JSON"),
        ("[]\n", "line 1: a line must be a JSON object"),
        ('{"question": "q", "answer": "a"}\n', "'completion'"),
        ('{"spans": [1], "row": {"question": "q", "answer": "a"}}\n', "line 1"),
        ("", "no trajectories"),
    ],
)
def test_bad_files(content, complaint, tmp_path, capsys):
    file = tmp_path / "a.jsonl"
    file.write_text(content)
    assert main([str(file), "--reward", "r1_searcher.stage2"]) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1


def test_missing_and_empty_folders(tmp_path, capsys):
    for path in (tmp_path, tmp_path / "none"):
        assert main([str(path), "--reward", "r1_searcher.stage2"]) == 2
        assert "no trajectories at" in capsys.readouterr().err
