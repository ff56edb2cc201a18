"""The progress of a run, and when it changes from its first reward to its second: plain bookkeeping, no Ray.

One `Progress` counts the questions of all engines. Each finished step is a line of a file
in the run folder, so that a resumed run continues with the same stage and the same curriculum.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from foundation.errors import InputError
from foundation.json_lines import JsonLines, read_finished, write_json_lines

_FORMS = "step:N, fraction:F, held:N[,retrieval=R][,format=R]"
_NUMBERS: dict[str, type[int] | type[float]] = {"step": int, "fraction": float, "held": int}
"""The kinds of switches, and how the number of each is read."""
_OPTIONS = {"held": frozenset({"retrieval", "format"})}
"""What a kind of switch may say beside its number."""


@dataclass(frozen=True)
class Switch:
    """The end of the first stage. Exactly one of `step`, `fraction` and `held` is set."""

    step: int = 0
    """Last step of the first stage."""
    fraction: float = 0.0
    """The same as a share of all steps."""
    held: int = 0
    """Steps in a row in which retrieval and format rate must have reached their thresholds."""
    retrieval: float = 0.95
    format: float = 0.9

    @classmethod
    def parse(cls, text: str) -> Switch:
        """Read `step:12`, `fraction:0.25`, `held:3` or `held:3,retrieval=0.9,format=0.9`.

        Raises:
            InputError: the text is none of these, or such a switch would never or always be over.
        """
        try:
            values = _values_of(text)
        except (KeyError, ValueError) as error:
            raise InputError(f"a switch is one of {_FORMS}; found {text!r}") from error
        return cls(**values).checked(text)

    def __str__(self) -> str:
        """As `parse` reads it."""
        if not self.held:
            return f"step:{self.step}" if self.step else f"fraction:{_shortest(self.fraction)}"
        thresholds = {"retrieval": self.retrieval, "format": self.format}
        changed = [
            f",{name}={_shortest(value)}" for name, value in thresholds.items() if value != getattr(Switch, name)
        ]
        return f"held:{self.held}{''.join(changed)}"

    def checked(self, text: str) -> Switch:
        """The switch itself. Raises `InputError` where it could never take place."""
        if (
            self.step < 0
            or self.held < 0
            or not 0 <= self.fraction < 1
            or not (self.step or self.fraction or self.held)
        ):
            raise InputError(f"the switch {text!r} never takes place; expected one of {_FORMS}, above 0")
        if not (0 <= self.retrieval <= 1 and 0 <= self.format <= 1):
            raise InputError(f"rates of the switch {text!r} must lie in 0..1: above 1 it never takes place")
        return self


def _values_of(text: str) -> dict[str, Any]:
    """The fields that a switch says. Raises KeyError or ValueError for those that do not go together."""
    first, *options = text.split(",")
    kind, _, value = first.partition(":")
    thresholds = [option.partition("=")[::2] for option in options]
    rates = {name: float(number) for name, number in thresholds}
    if len(rates) < len(thresholds) or not rates.keys() <= _OPTIONS.get(kind, frozenset()):
        raise ValueError(text)
    return {kind: _NUMBERS[kind](value), **rates}


def _shortest(number: float) -> str:
    """A number as short as it can be read back: the identity of a run holds it, and 0.9 must stay 0.9."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


@dataclass(frozen=True)
class StepSummary:
    """Means over the episodes of one finished step."""

    step: int
    stage: int
    retrieval: float
    format: float
    drawn: int | None = None
    """Questions of the pass over the data that were drawn when the step ended; None in files of earlier versions."""


@dataclass(frozen=True)
class Ticket:
    """An episode's place in the run."""

    step: int
    """Global step, from 1, that the episode is played for."""
    fraction: float
    """Step over all steps, above 0 and at most 1: ZeroSearch's i/m."""
    stage: int
    """1, or 2 once the switch has taken place."""


@dataclass(frozen=True)
class Batches:
    """How many questions the host draws for a step."""

    per_step: int
    """Questions of a full step, `--rollout.batch_size`."""
    per_pass: int
    """Questions of one pass over the data."""

    def drawn_after(self, step: int) -> int:
        """Questions of its pass that were drawn when a step ended, if none was replaced by filtering."""
        return step % (self.per_pass // self.per_step) * self.per_step


class Progress:
    """Counts questions, tells each episode its step and stage, and notes what the steps showed.

    The host draws the questions of a step, replaces those that it filters out while there are others, waits for all of
    them, and only then draws the next ones (openrlhf/trainer/ppo_utils/samples_generator.py). So its step is known from
    the questions that have ended, whatever the number of engines, also where it trains on older weights. What does not
    fill a step at the end of a pass is not trained on (`host.patches.whole_rollouts`), so it is not counted.

    Args:
        batches: how many questions a step has.
        total_steps: of the whole run.
        file: where finished steps are noted.
        first_step: global step of the checkpoint that this attempt starts from; later notes are forgotten.
    """

    def __init__(
        self, batches: Batches, total_steps: int, switch: Switch | None, file: Path, first_step: int = 0
    ) -> None:
        self._batches = batches
        self._total = max(total_steps, 1)
        self._switch = switch
        self._first_stage_ends = self._scheduled_end()
        self._file = file
        self._steps = [summary for summary in read_steps(file) if summary.step <= first_step]
        self._step = first_step + 1
        self._drawn = self._drawn_after(first_step)
        self._kept = 0
        self._seen: list[tuple[bool, bool]] = []
        self._stage = max((summary.stage for summary in self._steps), default=1)
        if self._stage == 1 and self._switch_is_due():
            self._stage = 2
        self._rewrite()

    def begin(self) -> Ticket:
        """The place of an episode that begins now."""
        if self._first_stage_ends and self._step > self._first_stage_ends:
            self._stage = 2
        return Ticket(self._step, min(self._step / self._total, 1.0), self._stage)

    def end(self, episodes: Sequence[tuple[bool, bool]], *, kept: bool = True) -> None:
        """Note the end of a question; with the last one of its step the step is noted on disk.

        Args:
            episodes: of each sample, whether it retrieved and whether it kept the format.
            kept: whether the host trains on the question; else it was filtered out.
        """
        self._drawn += 1
        if kept:
            self._kept += 1
            self._seen += episodes
        data_are_over = self._drawn == self._batches.per_pass
        if data_are_over:
            self._drawn = 0
        if self._kept == self._batches.per_step:
            self._end_step()
        elif data_are_over:
            self._kept, self._seen = 0, []

    def _end_step(self) -> None:
        rates = [sum(values) / len(self._seen) for values in zip(*self._seen, strict=True)]
        self._note(StepSummary(self._step, self._stage, rates[0], rates[1], self._drawn))
        self._step += 1
        self._kept, self._seen = 0, []

    def _drawn_after(self, step: int) -> int:
        noted = [summary.drawn for summary in self._steps if summary.step == step and summary.drawn is not None]
        return noted[-1] if noted else self._batches.drawn_after(step)

    def _note(self, summary: StepSummary) -> None:
        self._steps.append(summary)
        with contextlib.closing(JsonLines(self._file)) as lines:
            lines.append(asdict(summary))
            lines.sync()  # the stage of a resumed run follows from it
        if self._stage == 1 and self._switch_is_due():
            self._stage = 2

    def _scheduled_end(self) -> int:
        """Last step of the first stage where it is known beforehand, else 0."""
        if self._switch is None:
            return 0
        return self._switch.step or (max(1, round(self._switch.fraction * self._total)) if self._switch.fraction else 0)

    def _switch_is_due(self) -> bool:
        switch = self._switch
        if switch is None or not switch.held:
            return False
        last = self._steps[-switch.held :]
        good = (step.retrieval >= switch.retrieval and step.format >= switch.format for step in last)
        return len(last) == switch.held and all(good)

    def _rewrite(self) -> None:
        """Forget what is later than the checkpoint."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_json_lines(self._file, map(asdict, self._steps))


def read_steps(file: Path) -> list[StepSummary]:
    """The finished steps of a run; a half-written last line is left out. Raises `InputError` where it is damaged."""
    if not file.is_file():
        return []
    try:
        return msgspec.convert(list(read_finished(file)), list[StepSummary])
    except msgspec.ValidationError as error:
        raise InputError(f"{file} is damaged ({error}); remove it to count the steps without it") from error
