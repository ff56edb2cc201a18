"""Evaluations and trainings as `train_scripts/real.sh` leaves them."""

from __future__ import annotations

import json
from pathlib import Path

from eval.score import main as score
from support.runs.reports import SEARCHED, WRONG, episode, row, write_evaluation, write_run

TIMES = {"timing/step_total": 30.0, "timing/generation": 10.0, "timing/ppo_train": 16.0}


def evaluated(folder: Path, *right: bool, first: int = 0) -> None:
    """Questions with right and wrong answers, and their scores."""
    of = [row(n, f"Where is tower {n}?") for n in range(first, first + len(right))]
    folder.mkdir(parents=True)
    episodes = [episode(SEARCHED if is_right else WRONG, of=one) for is_right, one in zip(right, of, strict=True)]
    write_evaluation(folder, episodes)
    assert score([str(folder), "--json", str(folder / "scores.json")]) == 0


def trained(folder: Path, *f1: float) -> None:
    """A run of 8 episodes a step that had these F1."""
    folder.mkdir()
    write_run(folder, [])
    config = json.loads((folder / "run.json").read_text())
    config |= {"run_dir": str(folder), "questions_per_step": 2, "samples_per_question": 4}
    config |= {"retriever": {"source": "http://127.0.0.1:1"}}
    (folder / "run.json").write_text(json.dumps(config))
    steps = [
        {"step": n, "answer/f1": value, "reward": value, "format/rate": 1.0, "retrieval/searches": 1.0,
         "total_length": 400.0, "vllm_kl": 0.0005, **TIMES}
        for n, value in enumerate(f1, 1)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
