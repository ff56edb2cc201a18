"""The command that makes a simulator: which commands it runs, with which words, and what it refuses."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from data_prep import simulator_model
from data_prep.simulator_model import commands, main
from foundation.errors import InputError

SETTINGS = {"model": "M", "flags": {"adam": {"lr": "1e-6"}, "ds": {"zero_stage": 3}}}


def options(out: Path, *sources: str, model: str = "") -> argparse.Namespace:
    return argparse.Namespace(out=out, sources=list(sources), model=model)


def test_rows_then_a_model_with_flags_where_they_belong(tmp_path):
    others = ["--judge", "rule", "--adam.lr", "2e-6", "--mode=sft"]
    collected, trained = commands(options(tmp_path, "a", "b c"), others, SETTINGS)
    data = tmp_path / "data"
    assert collected == [
        *("data_prep.simulator_data", "a", "b", "c", "--out", str(data)),
        *("--judge", "rule", "--mode", "sft"),
    ]
    assert trained == [
        *("r1_searcher.sft", "--model", "M", "--data", str(data / "sft.jsonl"), "--out", str(tmp_path / "model")),
        *("--adam.lr", "1e-6", "--ds.zero_stage", "3", "--adam.lr", "2e-6"),
    ]


def test_rows_that_are_there_are_not_made_again(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sft.jsonl").write_text("{}\n")
    (trained,) = commands(options(tmp_path, model="mine"), [], SETTINGS)
    assert trained[:3] == ["r1_searcher.sft", "--model", "mine"]


def test_without_sources_and_rows_it_says_what_to_name(tmp_path):
    with pytest.raises(InputError, match="--sources"):
        commands(options(tmp_path), [], SETTINGS)


def test_a_command_that_fails_ends_it_with_its_status(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(simulator_model, "run", lambda command: asked.append(command) or 7)
    assert main(["--sources", "a", "--out", str(tmp_path), "--judge", "rule"]) == 7
    (command,) = asked
    assert command[:4] == [sys.executable, "-m", "data_prep.simulator_data", "a"]


def test_the_shipped_settings_are_the_papers(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(simulator_model, "run", lambda command: asked.append(command) and 0)
    assert main(["--sources", "a", "--out", str(tmp_path)]) == 0
    trained = asked[1]
    assert trained[trained.index("--model") + 1] == "Qwen/Qwen2.5-7B-Instruct"
    assert trained[trained.index("--adam.lr") + 1] == "1e-6"
