"""eval.rescore: the published servers' totals on every published row, our own rows, and what differs and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.fakes import ask, passages, play, say
from support.transcripts import SIZES, needs_published, server_scores, transcript_file

from eval.rescore import default_protocol, main
from r1_searcher.episode.trajectory_json import to_mapping
from r1_searcher.recipe.recipe import RECIPES
from r1_searcher.reward.rewards import REWARDS
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


def test_our_own_rows_keep_who_wrote_what(tmp_path):
    found_coach = passages("An assistant coach.")
    right = play([ask("coach"), say("Paris")], found_coach).trajectory
    failed = play([ask("coach")], RetrieverUnavailable("down")).trajectory
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(to_mapping(each)) + "\n" for each in (right, failed)))
    found = rescored(tmp_path, file, "--reward", "r1_searcher.stage2")
    assert (found["scores"], found["retriever_errors"]) == ([1.0, 0.0], 1)
    assert set(found["rules"].values()) == {0}


def test_list_names_every_reward(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(REWARDS)


def test_every_reward_has_a_default_protocol_of_its_recipe():
    for name in REWARDS:
        using = [recipe.protocol for recipe in RECIPES.values() if recipe.reward == name]
        assert default_protocol(name).name in (using or [default_protocol(name).name])
    assert default_protocol("r1_searcher.base_code").name == "r1_searcher.base"


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
