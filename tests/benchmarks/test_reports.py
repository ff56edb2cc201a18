"""Sections of the results pages: tables of runs, read from the folders that the benchmark scripts leave."""

from __future__ import annotations

import json

import pytest

from benchmarks import recorded_curves
from benchmarks.recipes_report import RecipeRun, markdown
from benchmarks.results.page import markdown_table
from benchmarks.seeds_report import MODELS, QuickstartSeed
from benchmarks.seeds_report import markdown as seeds_markdown
from eval.results.scores import Scores
from foundation.errors import InputError

BLOCK = {"n": 4, "retrieval_rate": 0.5, "format_rate": 1.0, "em": 0.25, "f1": 0.4, "searches_per_question": 1.5}


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "search_r1_seed3"
    for name, f1 in (("base", 0.1), ("final", 0.4)):
        block = {**BLOCK, "f1": f1, "interval_95": {"f1": [f1 - 0.1, f1 + 0.1]}}
        (run / name).mkdir(parents=True)
        (run / name / "scores.json").write_text(json.dumps({"greedy": block, "sampled": block, "provenance": {}}))
    (run / "run").mkdir()
    (run / "run" / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    return run


def test_a_table_has_a_line_per_row():
    assert markdown_table(("a", "b"), [("1", "2"), ("", "4")]) == "| a | b |\n|---|---|\n| 1 | 2 |\n|  | 4 |"
    assert markdown_table(["a"], []) == "| a |\n|---|"


def test_a_recipe_before_and_after(folder):
    run = RecipeRun.read(folder)
    assert (run.system, run.seed, run.steps) == ("search_r1", 3, 2)
    *_, greedy, sampled = markdown([run]).splitlines()
    assert 'bash benchmarks/recipe_runs.sh "search_r1" "3"' in markdown([run])
    cells = "search_r1 | 3 | 2 | {} | 0.50 -> 0.50 | 1.00 -> 1.00 | 0.25 -> 0.25 | 0.10 -> 0.40 | 0.30 to 0.50"
    assert greedy == f"| {cells.format('greedy')} | 1.50 -> 1.50 | +0.30 |"
    assert sampled == f"| {cells.format('sampled')} | 1.50 -> 1.50 | +0.30 |"


def test_a_missing_decoding_is_named(folder):
    (folder / "final" / "scores.json").write_text(json.dumps({"greedy": BLOCK | {"interval_95": {"f1": [0, 1]}}}))
    with pytest.raises(InputError, match="no sampled scores, found greedy"):
        markdown([RecipeRun.read(folder)])


def test_a_runs_curves_are_recorded_and_drawn(folder, tmp_path):
    steps = [
        {"step": n, "reward": 1 / 3, "policy_loss": 0.1, "answer/f1": 0.5, "unread": 1.0, "time": 2.0} for n in (1, 2)
    ]
    (folder / "run" / "metrics.jsonl").write_text("".join(f"{json.dumps(step)}\n" for step in steps))
    (folder / "run" / "signals.jsonl").write_text('{"step": 2, "episodes/reward_error": null}\n')
    records, picture = tmp_path / "records", tmp_path / "grid.png"
    records.mkdir()
    (records / "fault_research_seed1.jsonl").write_text('{"step": 1, "reward": 0.1, "policy_loss": 4.7}\n')
    words = [str(records), "--png", str(picture), "--record", str(folder / "run"), "healthy_deep_researcher_seed0"]
    assert recorded_curves.main(words) == 0 and picture.read_bytes().startswith(b"\x89PNG")
    before, after = recorded_curves.records_in(records)
    assert (before.kind, before.system, before.seed) == ("fault", "research", 1)
    assert (after.kind, after.system, after.seed) == ("healthy", "deep_researcher", 0)
    kept = {"step": 1, "reward": 0.3333, "policy_loss": 0.1, "answer/f1": 0.5}
    assert list(after.steps) == [kept, {**kept, "step": 2, "episodes/reward_error": None}]
    assert recorded_curves.main([str(tmp_path), "--png", str(picture)]) == 2, "no records there"
    steps = [{"step": 1, "policy_loss": 0.1, "heldout_f1": 0.9}, {"step": 2, "policy_loss": 0.1, "heldout_f1": 0.4}]
    (records / "collapse_x.jsonl").write_text("".join(f"{json.dumps(step)}\n" for step in steps))
    assert recorded_curves.main([str(records), "--markdown", str(tmp_path / "guard.md")]) == 0
    table = (tmp_path / "guard.md").read_text()
    assert "| collapse x | 2 |  | 2 |" in table and "| fault research seed1 | 1 | loss (1) |  |" in table


def test_the_quickstarts_page_names_its_seeds(tmp_path):
    file = tmp_path / "scores.json"
    block = {**BLOCK, "by_hops": {hops: {"f1": 0.4} for hops in ("1", "2")}}
    file.write_text(json.dumps({"greedy": block, "sampled": block, "provenance": {}}))
    scores = dict.fromkeys(MODELS, Scores.read(file))
    page = seeds_markdown(
        [QuickstartSeed("mask", seed, scores, [{"vllm_kl": 0.001}], 1) for seed in (5, 3)], "mask.png"
    )
    assert page.splitlines()[2].startswith("The quickstart with seeds 3, 5, on two CPU cores")
    assert "| stage2 | sampled | 3 | 0.50 | 1.00 | 0.25 | 0.40 | 0.40 | 0.40 | 1.50 |" in page
