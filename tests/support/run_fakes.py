"""Run folders and lines of episode logs, as a training leaves them."""

from __future__ import annotations

import json
from pathlib import Path

from r1_searcher.run.run_folder import RunFolder


def episode_line(
    row: str, reward: float, *actions: str, step: int = 1, queries=(), logprob: float = -0.5, reason="answered"
):
    spans, ids = [["prompt", 0, 2, "Question"]], 2
    for text in actions:
        count = len(text.split())
        spans.append(["action", ids, ids + count, text])
        ids += count
    return {
        "step": step,
        "row": {"id": row},
        "spans": spans,
        "stop_reason": reason,
        "searches": [{"query": query} for query in queries],
        "logprobs": [0.0, 0.0] + [logprob] * (ids - 2),
        "reward": {"total": reward},
    }


def append_lines(path: Path, *episodes, end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("\n".join(map(json.dumps, episodes)) + end)


def run_folder(tmp_path: Path, *checkpoints: int, latest: int | None = None) -> RunFolder:
    for model in ("_actor", "_critic"):
        for step in checkpoints:
            (tmp_path / "checkpoints" / model / f"global_step{step}").mkdir(parents=True)
        if checkpoints:
            newest = latest if latest is not None else max(checkpoints)
            (tmp_path / "checkpoints" / model / "latest").write_text(f"global_step{newest}")
    return RunFolder(tmp_path)
