"""The table of a real run: what is compared with what, over the same questions, and how trainings are named."""

from __future__ import annotations

import asyncio
import json

import numpy
import pytest
from support.episodes.evaluations import Run, policy_of, right, rows, wrong

from eval import real_report
from eval.phases import Ledger, Phase
from eval.real_report import Training
from eval.results.folder import EvaluationFolder
from eval.results.intervals import difference_interval
from eval.results.scores import Scores


def evaluation(folder, script):
    """An evaluation with its scores, played for real with a scripted policy."""
    questions = rows(6)
    folder.mkdir(parents=True)
    EvaluationFolder(folder).claim({"recipe": {"name": "r", "protocol": "r1_searcher.chat"}, "model": folder.name})
    session = asyncio.run(Run(folder, questions, policy_of(questions, script))())
    Scores(session.scores()).write(folder / "scores.json")


def test_the_table_compares_each_step_with_the_one_before_on_the_same_questions(tmp_path, capsys):
    for name, script in {"closed_book": wrong, "base": wrong, "cold": right, "stage2": right}.items():
        evaluation(tmp_path / name, script)
    Ledger(tmp_path / "phases.jsonl").note(Phase("model", 1, "a", ()), 12.0, done=True)
    assert real_report.main([str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    steps = {(each["from"], each["to"]): each for each in summary["differences"]}
    assert list(steps) == [("base", "cold"), ("cold", "stage2")]
    assert len(summary["differences"]) == 2, "no pair twice"
    assert steps["base", "cold"]["f1"]["mean"] == 1.0 and steps["cold", "stage2"]["em"]["mean"] == 0.0
    assert list(summary["places"]) == ["base", "cold", "stage2"], "of baselines, nothing is said"
    assert sum(place["n"] for place in summary["places"]["cold"]["greedy"].values()) == 6
    told = capsys.readouterr().out
    assert summary["seconds"] == {"model": 12.0} and "base to cold, greedy" in told and "where the answer stood" in told


def test_further_trainings_are_compared_with_their_start_and_seeds_are_summed_up(tmp_path, capsys):
    for name, script in {"cold": wrong, "stage2": right, "seed1.stage2": wrong, "no_mask.stage2": right}.items():
        evaluation(tmp_path / name, script)
    assert real_report.main([str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    found = {(each["from"], each["to"]): each["f1"]["mean"] for each in summary["differences"]}
    assert found == {("cold", "stage2"): 1.0, ("cold", "no_mask.stage2"): 1.0, ("cold", "seed1.stage2"): 0.0}
    (seeds,) = summary["seeds"]
    change = seeds.pop("change")
    told = {"variant": "", "stage": "stage2", "decoding": "greedy"}
    assert seeds == {**told, "n": 2, "f1": [1.0, 0.0], "em": [1.0, 0.0]}
    assert change["f1"]["mean"] == 0.5, "of every question, the mean of both seeds is half right"
    half = difference_interval(numpy.full(6, 0.5))
    assert change["f1"]["interval_95"] == list(half), "over six questions, not twelve episodes"
    assert "50.0 (0.0 to 100.0)" in capsys.readouterr().out


def test_a_variant_is_compared_with_the_first_settings_by_the_seeds_that_both_have(tmp_path, capsys):
    played = {"cold": wrong, "stage2": wrong, "seed1.stage2": right, "seed2.stage2": right, "seed1.stage1": right}
    played |= {"no_mask.stage2": right, "no_mask_seed1.stage2": right, "no_mask_seed7.stage2": wrong}
    for name, script in played.items():
        evaluation(tmp_path / name, script)
    assert real_report.main([str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    (between,) = summary["variants"]
    change = between.pop("change")
    assert between == {"variant": "no_mask", "stage": "stage2", "decoding": "greedy", "n": 2}
    assert change["f1"]["mean"] == 0.5, "seeds 0 and 1 of both: right and right against wrong and right"
    seeds = {(each["variant"], each["stage"]): each["f1"] for each in summary["seeds"]}
    assert seeds == {("", "stage2"): [0.0, 1.0, 1.0], ("no_mask", "stage2"): [1.0, 1.0, 0.0]}
    assert "no_mask.stage2, greedy" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["", "seed3", "no_mask", "no_mask_seed12", "a_seed3_b"])
def test_a_training_is_named_by_its_variant_and_seed(name):
    training = Training.named(name)
    assert training.name == name and Training(training.variant, training.seed) == training
    assert training.stages == (("stage1", "stage2") if not name else (f"{name}.stage1", f"{name}.stage2"))


@pytest.mark.parametrize(("rate", "counted"), [("5e-5", True), ("1e-6", False)])
def test_a_seed_with_other_settings_is_none_of_the_seeds(tmp_path, rate, counted):
    for name, seed, its_rate in (("stage2", "42", "5e-5"), ("seed1.stage2", "43", rate)):
        evaluation(tmp_path / name, right)
        flags = {"--train.seed": seed, "--ckpt.path": name, "--actor.adam.lr": its_rate}
        (tmp_path / f"{name}_run").mkdir()
        (tmp_path / f"{name}_run" / "identity.json").write_text(json.dumps({"recipe": {}, "flags": flags}))
    assert bool(real_report.summarize(tmp_path)["seeds"]) is counted


def test_the_report_needs_an_evaluation(tmp_path, capsys):
    assert real_report.main([str(tmp_path)]) == 2
    assert "holds no evaluation" in capsys.readouterr().err
