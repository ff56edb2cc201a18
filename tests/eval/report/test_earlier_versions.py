"""The page of a run that an earlier version has left: the files are as that version wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.runs.reports import Embedded
from support.runs.run_folders import RUN_OF_AN_EARLIER_VERSION

from eval.report.__main__ import main

DOCUMENTS = "\n\n<|begin_of_documents|>\n(1) in Paris\n<|end_of_documents|>\n\n"
EPISODE: dict[str, Any] = {
    **{"step": 1, "stage": 1, "attempt": 0},
    "row": {"id": "q0", "question": "Where?", "answers": ["Paris"], "source": "toy", "hops": 1, "titles": []},
    "spans": [
        ["prompt", 0, 14, "Mine : Where?\n"],
        ["action", 14, 21, "<|begin_of_query|>tower<|end_of_query|>"],
        ["documents", 21, 41, DOCUMENTS],
        ["action", 41, 51, "</think> <answer>Paris</answer>"],
    ],
    "stop_reason": "answered",
    "answer": "Paris",
    "searches": [
        {
            **{"query": "tower", "passage_ids": ["p1"], "shown_ids": ["p1"], "scores": [1.0]},
            **{"seconds": 0.000028, "error": "", "tool": ""},
        }
    ],
    **{"seconds": 0.0036, "engine_seconds": 0.0003},
    "ids": [
        *(77, 105, 110, 101, 32, 58, 32, 87, 104, 101, 114, 101, 63, 10),
        *(259, 116, 111, 119, 101, 114, 260),
        *(10, 10, 257, 10, 40, 49, 41, 32, 105, 110, 32, 80, 97, 114, 105, 115, 10, 258, 10, 10),
        *(263, 32, 262, 80, 97, 114, 105, 115, 261, 256),
    ],
    "logprobs": [
        *[0.0] * 14,
        *(-1.26, -1.117, -1.112, -1.12, -1.102, -1.115, -1.261),
        *[0.0] * 20,
        *(-2.264, -2.033, -2.263, -2.081, -2.098, -2.115, -2.106, -2.116, -2.262, -2.257),
    ],
    "reward": {
        "total": 1.0,
        "parts": {"retrieval": 0.5, "format": 0.5},
        "rules": dict.fromkeys(("no_forged_documents", "think_closed_once", "one_answer", "queries_searched"), True),
    },
}


@pytest.fixture
def run(tmp_path) -> Path:
    """A training of that version after its first step."""
    folder = tmp_path / "run"
    (folder / "trajectories").mkdir(parents=True)
    write(folder / "run.json", RUN_OF_AN_EARLIER_VERSION)
    write(
        folder / "identity.json",
        {"recipe": RUN_OF_AN_EARLIER_VERSION["recipe"], "flags": {"--actor.model_name_or_path": "org/base"}},
    )
    write(folder / "metrics.jsonl", {"step": 1, "time": 1.0, "reward": 1.0, "answer/f1": 1.0})
    write(folder / "trajectories" / "000000-host-1.jsonl", EPISODE)
    return folder


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def test_a_run_of_an_earlier_version_is_shown_like_one_of_today(run, capsys):
    assert main([str(run)]) == 0
    told = capsys.readouterr()
    assert "1 episodes" in told.out and "no episodes" not in told.err
    page = Embedded((run / "report.html").read_text(encoding="utf-8"))
    (run,) = page.head["runs"]
    facts = run["facts"]
    assert (facts["recipe"], facts["protocol"], facts["model"]) == ("tiny.auto", "r1_searcher.tiny", "org/base")
    assert facts["reward"] == "r1_searcher.stage1, then r1_searcher.stage2" and "top k 2" in facts["limits"]
    assert page.head["curves"][0]["values"]["answer/f1"] == [1.0]
    (whole,) = page.whole
    assert [span["trained"] for span in whole["spans"]] == [False, True, False, True]
    assert whole["spans"][3]["logprobs"] == EPISODE["logprobs"][41:] and whole["reward"] == EPISODE["reward"]
    assert (whole["searches"][0]["block"], whole["searches"][0]["starts"]) == (0, [DOCUMENTS.index("(1)")])
    assert (page.columns["forged"], page.columns["broken"]) == ([False], [[]])


def test_one_whose_plugin_is_gone_is_refused_in_a_line_that_names_it(run, capsys):
    """That version's runs named one plugin, as `plugin`."""
    recipe = {**RUN_OF_AN_EARLIER_VERSION["recipe"], "protocol": "mine"}
    write(run / "run.json", {**RUN_OF_AN_EARLIER_VERSION, "recipe": recipe, "plugin": "/gone/mine.py"})
    assert main([str(run)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "/gone/mine.py" in error and "--plugin" in error
