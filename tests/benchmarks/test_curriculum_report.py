"""The noise that a run really met, counted from its episodes and held against the formula."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from benchmarks.curriculum_report import CurriculumRun, SearchesOfStep, main, plot, table
from r1_searcher.recipe.recipe import find_recipe
from retriever.simulated.engine import Noise


@pytest.fixture
def run_folder(tmp_path):
    """A run of four steps: the given numbers of useful and noisy searches in each."""

    def write(url="simulate:http://x/v1?mode=short&noise=0.5:0.5", counts=((5, 5), (4, 6), (6, 4), (5, 5))):
        folder = tmp_path / "zerosearch_seed0" / "run"
        (folder / "trajectories").mkdir(parents=True)
        recipe = find_recipe("tiny.zerosearch").to_mapping()
        (folder / "run.json").write_text(
            json.dumps({"recipe": recipe, "retriever": {"url": url}, "total_steps": len(counts)})
        )
        lines = []
        for step, (useful, noisy) in enumerate(counts, start=1):
            names = ["simulated/useful/1"] * useful + ["simulated/noisy/1"] * noisy + [None]
            searches = [
                {"query": "q", "passage_ids": [name] if name else [], "shown_ids": [], "scores": [], "seconds": 0.0}
                for name in names
            ]
            row = {"id": "q", "question": "?", "answers": ["a"]}
            lines.append({"step": step, "row": row, "spans": [], "stop_reason": "answered", "answer": "a",
                          "searches": searches})  # fmt: skip
        (folder / "trajectories" / "1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder

    return write


def test_searches_are_counted_by_step_and_failed_ones_left_out(run_folder):
    run = CurriculumRun.read(run_folder())
    assert run.name == "zerosearch_seed0/run" and run.noise == Noise(0.5, 0.5)
    assert [asdict(step) for step in run.steps][:2] == [
        {"number": 1, "searches": 10, "noisy": 5},
        {"number": 2, "searches": 10, "noisy": 6},
    ]
    count, realised, expected, sigmas = run.deviation(2, 2)
    assert (count, realised, expected) == (10, 0.6, 0.5)
    assert sigmas == pytest.approx(1 / 2.5**0.5)  # one search more than 5, spread of 10 fair draws


def test_the_formula_is_that_of_the_run(run_folder):
    run = CurriculumRun("x", Noise(0.0, 0.5), 100, (SearchesOfStep(50, 1000, 167),))
    assert run.expected(50) == pytest.approx(1 / 6)
    assert "| x | 41-60 | 1000 | 0.167 | 0.167 | +0.0 |" in table([run])


def test_the_plot_is_written(run_folder, tmp_path):
    file = tmp_path / "new" / "plot.png"
    plot([CurriculumRun.read(run_folder())], file)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_a_run_that_searched_for_real_is_refused(run_folder, capsys):
    folder = run_folder(url="http://127.0.0.1:8000")
    assert main([str(folder)]) == 2
    assert "no simulated engine" in capsys.readouterr().err
