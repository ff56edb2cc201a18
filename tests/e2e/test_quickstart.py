"""The README's command, on a small world: every phase, the files that it leaves, and nothing left running."""

from __future__ import annotations

import json
import subprocess

import psutil
import pytest
from support.processes.e2e_stack import REPO, belongs_to, check_engine_follows_trainer
from support.runs.report_browser import check_report

from data_prep.tiny.names import pool
from r1_searcher.episode.trajectory import SpanKind
from r1_searcher.run.episode_log import read_episodes

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SCORES = {"n", "retrieval_rate", "format_rate", "em", "cover_em", "f1", "searches_per_question"}
PHASES = {"setup", "world", "evaluate_base", "stage1", "evaluate_stage1", "stage2", "evaluate_stage2"}


def test_quickstart_runs_from_set_up_to_summary(tmp_path):
    out = tmp_path / "quickstart"
    command = ["bash", str(REPO / "train_scripts" / "quickstart.sh"), "--small", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads((out / "summary.json").read_text())
    for model in ("base", "stage1", "stage2"):
        assert all(set(summary[model][decoding]) >= SCORES for decoding in ("greedy", "sampled"))
        assert summary[model]["greedy"]["n"] == 24
    assert set(summary["seconds"]) >= PHASES
    assert summary["stage1"]["sampled"]["retrieval_rate"] > summary["base"]["sampled"]["retrieval_rate"]
    check_the_engine_runs_the_trainers_weights(out)
    check_nothing_held_out_is_in_a_training_context(out)
    left = [process for process in psutil.process_iter() if belongs_to(process, str(out))]
    assert not left, f"still running: {left}"

    again = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    assert again.returncode == 0 and json.loads((out / "summary.json").read_text())["stage2"] == summary["stage2"]
    check_report(out / "report.html", questions=24)


def check_nothing_held_out_is_in_a_training_context(out) -> None:
    """In whatever the policy was given; in what it writes, two words can be a held-out name by chance."""
    names = pool("evaluation")
    for run in ("stage1_run", "stage2_run"):
        files = sorted((out / run / "trajectories").glob("*.jsonl"))
        given, found = read_contexts(episode for file in files for episode in read_episodes(file))
        assert found and not [passage_id for passage_id in found if passage_id.startswith("evaluation-")]
        assert "Film" in given and not [name for name in names if name in given]
    given, found = read_contexts(read_episodes(out / "stage2" / "predictions.jsonl"))
    assert any(passage_id.startswith("evaluation-") for passage_id in found), "evaluation searches the whole corpus"
    assert any(name in given for name in names)


def read_contexts(episodes) -> tuple[str, set[str]]:
    """What the environment wrote in these episodes, and the ids of the passages that were found."""
    trajectories = [episode.trajectory for episode in episodes]
    spans = [span for trajectory in trajectories for span in trajectory.spans if span.kind is not SpanKind.ACTION]
    searches = [search for trajectory in trajectories for search in trajectory.searches]
    return "\n".join(span.text for span in spans), {found for search in searches for found in search.passage_ids}


def check_the_engine_runs_the_trainers_weights(out) -> None:
    """Both stages, from their own logs."""
    for run, steps in (("stage1_run", 5), ("stage2_run", 6)):
        metrics = [json.loads(line) for line in (out / run / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in metrics] == list(range(1, steps + 1))
        check_engine_follows_trainer(metrics)
