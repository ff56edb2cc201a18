"""Run folders and lines of episode logs, as a training leaves them."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import SearchRecord, Span, SpanKind, StopReason, Trajectory
from r1_searcher.reward.rewards import RewardResult
from r1_searcher.run.episode_record import EpisodeRecord
from r1_searcher.run.run_folder import RunFolder

RUN_OF_AN_EARLIER_VERSION: dict[str, Any] = {
    "run_dir": "/runs/1",
    "recipe": {
        "name": "tiny.auto",
        "protocol": "r1_searcher.tiny",
        "reward": "r1_searcher.stage1",
        "limits": {
            "max_searches": 4,
            "turn_tokens": 48,
            "max_length": 384,
            "top_k": 2,
            "answer_tokens": 32,
            "document_tokens": None,
        },
        "train_on_documents": False,
        "then_reward": "r1_searcher.stage2",
        "switch": "held:3",
        "prompt": "Mine : {question}\n",
        "system_prompt": "",
    },
    "retriever": {"url": "http://h:1", "browse": "", "read_timeout": 30.0, "attempts": 4, "deadline": 60.0},
    "reward_url": "",
    "judge": None,
    "plugin": "",
}
"""`run.json` before recipes held their protocol and rewards themselves, and a search source was a `url`."""


def episode(
    row: str, reward: float, *actions: str, step: int = 1, queries=(), logprob: float | None = -0.5, reason="answered"
) -> EpisodeRecord:
    """A word is a token; log-probs are all the same, or left out."""
    spans, ids = [Span(SpanKind.PROMPT, 0, 2, "Question")], 2
    for text in actions:
        count = len(text.split())
        spans.append(Span(SpanKind.ACTION, ids, ids + count, text))
        ids += count
    trajectory = Trajectory(
        QARow(row, "Question", ("gold",)),
        tuple(range(ids)),
        tuple(spans),
        StopReason(reason),
        searches=tuple(SearchRecord(query, (), (), (), 0.0) for query in queries),
        logprobs=None if logprob is None else (0.0, 0.0, *[logprob] * (ids - 2)),
    )
    return EpisodeRecord(trajectory, RewardResult(reward, {}, {}), step=step, stage=1)


def episode_line(*arguments, **options) -> dict[str, Any]:
    """The line of `episode` in a log."""
    return episode(*arguments, **options).to_line()


def append_lines(path: Path, *episodes, end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("\n".join(map(json.dumps, episodes)) + end)


def run_folder(tmp_path: Path, *checkpoints: int, latest: int | None = None) -> RunFolder:
    """A run with whole checkpoints of actor and critic, of which `latest` names the newest or the given one."""
    for model in ("_actor", "_critic"):
        for step in checkpoints:
            write_checkpoint(tmp_path / "checkpoints" / model / f"global_step{step}")
        if checkpoints:
            newest = latest if latest is not None else max(checkpoints)
            (tmp_path / "checkpoints" / model / "latest").write_text(f"global_step{newest}")
    return RunFolder(tmp_path)


def write_checkpoint(folder: Path, ranks: int = 1) -> None:
    """The files that DeepSpeed writes with ZeRO-2 and bf16, with next to nothing in them."""
    folder.mkdir(parents=True)
    (folder / "mp_rank_00_model_states.pt").write_bytes(_torch_file(ranks))
    for rank in range(ranks):
        (folder / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").write_bytes(_torch_file(ranks))
    (folder / "metric.json").write_text('{"metric_key": null, "metric_value": null}')


@cache
def _torch_file(ranks: int) -> bytes:
    import torch

    content = io.BytesIO()
    torch.save({"dp_world_size": ranks}, content)
    return content.getvalue()
