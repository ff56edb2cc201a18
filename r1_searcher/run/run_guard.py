"""Runs the collapse guard: reads steps and episodes as they come, writes alarms, and ends the run if asked.

What can be kept: OpenRLHF saves a checkpoint every `--ckpt.save_steps` steps and keeps the newest
`--ckpt.max_num`; nothing outside it can make it save. So a stopped run has the checkpoints that were there, and
going back means pointing DeepSpeed's `latest` to the best of these. The same command then continues from that step.
Other settings (a lower learning rate) are another run; it can start from a checkpoint only as a Hugging Face model,
which `--ckpt.save_hf` writes beside each one.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from foundation.errors import InputError
from foundation.json_lines import JsonLines, read_finished
from r1_searcher.episode.protocol import Protocol
from r1_searcher.run.checkpoints import go_back_to, kept_steps
from r1_searcher.run.collapse_guard import SIGNS, Alarm, CollapseGuard
from r1_searcher.run.episode_log import GrowingEpisodes, RunAttempt
from r1_searcher.run.episode_signals import StepSignals
from r1_searcher.run.run_folder import RunFolder

logger = logging.getLogger(__name__)

_LOGGED_LAST = "timing/step_total"
"""The host writes a step's scalars one after another, this one at the end; a line without it may be half a step."""
_BEFORE = 2
"""Steps before a checkpoint whose rewards count for it, beside the one after it."""


class GuardAction(str, Enum):
    """The consequence of a sign of a collapse."""

    OFF = "off"
    WARN = "warn"
    """A line in the log and in `guard.jsonl`; the run continues."""
    STOP = "stop"
    """The run ends; its newest checkpoint is where the same command continues."""
    BEST = "best"
    """The run ends; the best checkpoint that is left is where the same command continues."""


@dataclass
class EpisodeTail:
    """The episodes of a run's steps, read as their files grow; a step that was played again counts as last played."""

    folder: Path
    protocol: Protocol
    steps: dict[int, StepSignals] = field(default_factory=dict)
    best_rewards: dict[int, float] = field(default_factory=dict)
    """Highest reward of an episode so far, by reward stage: another stage is another scale."""
    _logs: dict[Path, GrowingEpisodes] = field(default_factory=dict)
    _attempt: RunAttempt | None = None
    """The one that wrote the latest log."""

    def refresh(self) -> None:
        """Read what was written since the last call."""
        for path in sorted(self.folder.glob("*.jsonl"), key=_age):
            if path not in self._logs:
                self._begin(path)
            for episode in self._logs[path].new():
                if episode.step is None:
                    raise InputError(f"{path} holds an episode without a step: it is no log of a training")
                signals = self.steps.setdefault(episode.step, StepSignals(self.protocol))
                signals.add(episode)
                best = self.best_rewards.get(signals.stage, float("-inf"))
                self.best_rewards[signals.stage] = max(best, signals.best_reward)

    def values(self, step: int) -> dict[str, float]:
        """The signals of a step; empty where none of its episodes was logged."""
        signals = self.steps.pop(step, None)
        return signals.values(self.best_rewards[signals.stage]) if signals else {}

    def _begin(self, path: Path) -> None:
        """Begin to read a log; with the first one of an attempt, what it will play again is forgotten."""
        self._logs[path] = GrowingEpisodes(path)
        attempt = RunAttempt.of(path)
        if attempt != self._attempt:
            self._attempt = attempt
            self.steps = {step: signals for step, signals in self.steps.items() if step <= attempt.first_step}


def _age(log: Path) -> tuple[int, float, str]:
    """Sorts logs by their attempts; names of earlier versions do not say which came first, only the clock does."""
    return RunAttempt.of(log).number, log.stat().st_mtime, log.name


class RunGuard:
    """Watches one attempt at a run."""

    def __init__(
        self,
        folder: RunFolder,
        action: GuardAction,
        protocol: Protocol,
        update_size: float | None,
        estimator: str = "",
    ) -> None:
        """Begin to watch.

        Args:
            folder: the run's.
            action: what an alarm leads to.
            protocol: how the run's episodes are written.
            update_size: the learning rate after warm-up, as a share of the model's weights; None: not known.
            estimator: the run's advantage estimator, which some signs are about.
        """
        self.action = action
        self._folder = folder
        self._update_size = update_size
        self._episodes = EpisodeTail(folder.trajectories, protocol)
        self._guard = CollapseGuard([sign for sign in SIGNS if sign.estimator in ("", estimator)])
        self._first = folder.last_step
        self._last = 0
        self._log: JsonLines | None = None
        self._signals: JsonLines | None = None
        self._alarms: list[Alarm] = []

    def look(self, steps: Mapping[int, Mapping[str, Any]]) -> bool:
        """Take in new steps; whether the run is to end.

        Steps of earlier attempts, up to the checkpoint that this one began from, are its history and raise no alarm:
        who runs a stopped run again wants it to continue. What they logged after it is not among the steps
        (`MetricsLog`).
        """
        if self.action is GuardAction.OFF:
            return False
        whole = [step for step in sorted(steps) if _LOGGED_LAST in steps[step] or step < max(steps)]
        new = [step for step in whole if step > self._last]
        if not new:
            return False
        self._episodes.refresh()
        for step in new:
            self._last = step
            alarms = self._guard.observe(step, self._values(step, steps[step]))
            if step > self._first:
                self._raise(alarms)
        return bool(self._alarms) and self.action is not GuardAction.WARN

    def _values(self, step: int, line: Mapping[str, Any]) -> dict[str, float | None]:
        signals = self._episodes.values(step)
        if self._update_size is not None:
            signals["guard/update_size"] = self._update_size
        if step > self._first and signals:
            if self._signals is None:
                self._signals = JsonLines(self._folder.signals_file)
            self._signals.append({"step": step, **signals})
        return {**line, **signals}

    def _raise(self, alarms: list[Alarm]) -> None:
        for alarm in alarms:
            logger.warning("collapse guard, %s: %s", alarm.sign.name, alarm)
            if self._log is None:
                self._log = JsonLines(self._folder.guard_file)
            row = {"step": alarm.step, "sign": alarm.sign.name, "metric": alarm.sign.metric, "message": str(alarm)}
            numbers = {"value": alarm.value, "limit": alarm.limit}
            known = {name: number for name, number in numbers.items() if number == number}  # JSON has no NaN
            self._log.append({**row, **known, "window": alarm.sign.window, "action": self.action.value})
        self._alarms += alarms

    def conclude(self, steps: Mapping[int, Mapping[str, Any]]) -> str:
        """The fate of the run that `look` ended, in one line; goes back where that was asked for."""
        first = self._alarms[0]
        kept = self._folder.last_step
        if self.action is GuardAction.BEST and kept:
            kept = best_checkpoint(kept_steps(self._folder), steps, first.step - first.sign.window + 1)
            go_back_to(self._folder, kept)
        onward = (
            f"the same command continues from the checkpoint of step {kept}"
            if kept
            else "there is no checkpoint yet (--ckpt.save_steps), the same command begins anew"
        )
        return (
            f"the collapse guard ended the run: {first}; {onward}, other settings need another --run-dir, "
            "--guard warn only reports"
        )


def with_signals(lines: Sequence[Mapping[str, Any]], file: Path) -> list[dict[str, Any]]:
    """Each step's metrics with what the guard saw in it (`RunFolder.signals_file`), as it was last played."""
    seen = {row["step"]: row for row in read_finished(file)} if file.is_file() else {}
    return [{**seen.get(line["step"], {}), **line} for line in lines]


def best_checkpoint(checkpoints: list[int], steps: Mapping[int, Mapping[str, Any]], trouble: int) -> int:
    """The checkpoint with the highest mean reward around it, of those from before the trouble began.

    The rollout of step N + 1 is played by the weights that are saved at step N. Where every checkpoint is from
    after the beginning of the trouble, the oldest one.
    """

    def reward(checkpoint: int) -> float:
        near = range(checkpoint - _BEFORE + 1, checkpoint + 2)
        known = [steps[step]["reward"] for step in near if step in steps and step < trouble]
        return statistics.fmean([value for value in known if value is not None] or [float("-inf")])

    before = [checkpoint for checkpoint in checkpoints if checkpoint < trouble]
    return max(before, key=lambda checkpoint: (reward(checkpoint), checkpoint)) if before else min(checkpoints)
