"""Runs side by side on the questions that all of them answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from eval.results.intervals import paired_difference, share_interval
from eval.results.predictions import by_decoding, predictions_file, read_predictions
from eval.results.scores import provenance_beside
from eval.results.summary import failures
from eval.results.variants import DEFAULT_METRICS, VARIANTS, variant
from foundation.errors import InputError
from r1_searcher.run.episode_record import EpisodeRecord

JUDGE = "judge"
_SEARCHES = "retrieval/searches"
EXPECTED_TO_DIFFER = ("model", "recipe.name", "recipe.reward", "seconds", "data.path", "notes")
"""Provenance that is the point of a comparison, or says nothing about it."""

Key = tuple[str, int]
"""A question's text, and its number among the questions of this text: ids differ between files."""


@dataclass(frozen=True)
class ComparedFile:
    """One file of predictions."""

    label: str
    path: Path
    records: Mapping[Key, EpisodeRecord]
    """Without those that failed."""
    failures: Mapping[str, int]
    """How many those are, by what failed."""
    provenance: Mapping[str, Any]

    @classmethod
    def read(cls, label: str, path: Path, decoding: str | None) -> ComparedFile:
        """The predictions of one way of sampling: the named one, or the file's first.

        Raises:
            InputError: the file cannot be read, or does not hold this decoding.
        """
        groups = by_decoding(read_predictions(path))
        name = next(iter(groups)) if decoding is None else decoding
        if name not in groups:
            raise InputError(f"{path} holds no decoding {name!r}; found: {', '.join(groups)}")
        provenance = provenance_beside(predictions_file(path))
        return cls(label, path, _keyed(groups[name]), failures(groups[name]), provenance)


def _keyed(records: Sequence[EpisodeRecord]) -> dict[Key, EpisodeRecord]:
    """Those that did not fail, in the order of the file; the failed ones have their place among those of one text."""
    by_text: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        by_text.setdefault(" ".join(record.row.question.split()), []).append(number)
    keys = {
        number: (text, occurrence)
        for text, numbers in by_text.items()
        for occurrence, number in enumerate(sorted(numbers, key=lambda number: _order(records[number])))
    }
    return {keys[number]: record for number, record in enumerate(records) if not record.failed}


def _order(record: EpisodeRecord) -> tuple[str, bool]:
    """Where a record stands among those of its text.

    Our own lines are in the order in which episodes ended, so their ids decide; of one id, in a training's log, a
    failed attempt comes after the one that counts. A published file is in the order of its questions.
    """
    return ("", False) if record.is_published else (record.row.id, record.failed)


@dataclass(frozen=True)
class Comparison:
    """Two or more runs, and the questions that they have in common."""

    runs: Sequence[ComparedFile]
    metric: str
    """The metric of wins and losses: a short key, a variant, or `judge`."""
    keys: Sequence[Key]

    @classmethod
    def of(cls, runs: Sequence[ComparedFile], metric: str) -> Comparison:
        """Raises `InputError` where there is no such metric, or no common question."""
        known = [*DEFAULT_METRICS, *VARIANTS, JUDGE]
        if metric not in known:
            raise InputError(f"unknown metric {metric!r}; known: {', '.join(known)}")
        keys = [key for key in runs[0].records if all(key in run.records for run in runs[1:])]
        if not keys:
            raise InputError(f"no question is answered in all of {', '.join(str(run.path) for run in runs)}")
        comparison = cls(runs, metric, keys)
        if metric == JUDGE and not all(map(comparison.is_judged, runs)):
            raise InputError("the metric judge needs a verdict for every common question in every run")
        return comparison

    def common(self, run: ComparedFile) -> list[EpisodeRecord]:
        """The run's records of the common questions, in the same order for every run."""
        return [run.records[key] for key in self.keys]

    def is_judged(self, run: ComparedFile) -> bool:
        """Whether every common question of the run has a verdict."""
        return all(record.judged is not None for record in self.common(run))

    def values(self, run: ComparedFile, metric: str) -> list[float]:
        """The metric of every common question."""
        if metric == JUDGE:
            return [float(bool(record.judged)) for record in self.common(run)]
        name = DEFAULT_METRICS.get(metric, metric)
        return [variant(record, name) for record in self.common(run)]

    @property
    def metrics(self) -> list[str]:
        """The metrics reported: the defaults, the chosen one, and the judge's where all runs have verdicts."""
        judged = [JUDGE] if all(map(self.is_judged, self.runs)) else []
        return list(dict.fromkeys([*DEFAULT_METRICS, *judged, self.metric]))

    def summary(self, run: ComparedFile) -> dict[str, Any]:
        """Scores and costs of one run on the common questions."""
        columns = [self.values(run, metric) for metric in self.metrics]
        means = [round(sum(column) / len(column), 6) for column in columns]
        common = self.common(run)
        return {
            "label": run.label,
            "path": str(run.path),
            "n": len(run.records),
            **run.failures,
            "scores": dict(zip(self.metrics, means, strict=True)),
            "interval_95": dict(zip(self.metrics, map(list, map(share_interval, columns)), strict=True)),
            "searches": _mean(common, _SEARCHES),
            "action_tokens": _mean(common, "tokens/action"),
            "document_tokens": _mean(common, "tokens/documents"),
            "by_searches": self._by_searches(run),
            "provenance": dict(run.provenance),
        }

    def _by_searches(self, run: ComparedFile) -> dict[str, dict[str, Any]]:
        """The metric by how often the run searched: does asking more pay?"""
        groups: dict[int, list[float]] = {}
        for record, value in zip(self.common(run), self.values(run, self.metric), strict=True):
            if _SEARCHES in record.metrics:
                groups.setdefault(int(record.metrics[_SEARCHES]), []).append(value)
        return {
            str(count): {"n": len(values), self.metric: round(sum(values) / len(values), 6)}
            for count, values in sorted(groups.items())
        }

    def difference(self, first: Sequence[ComparedFile], others: Sequence[ComparedFile]) -> dict[str, dict[str, Any]]:
        """By metric, how much the mean of the others is above that of the first runs, paired by question."""
        differences = {}
        for metric in self.metrics:
            found = paired_difference(self._means(first, metric), self._means(others, metric))
            differences[metric] = {"mean": found.mean, "interval_95": list(found.interval), "p_value": found.p_value}
        return differences

    def _means(self, runs: Sequence[ComparedFile], metric: str) -> list[float]:
        """The metric of every common question, in the mean of the runs."""
        return [fmean(values) for values in zip(*(self.values(run, metric) for run in runs), strict=True)]

    def pair(self, first: ComparedFile, second: ComparedFile) -> dict[str, Any]:
        """How much the second run is above the first, and on which questions."""
        pairs = list(zip(self.values(first, self.metric), self.values(second, self.metric), strict=True))
        ids = [record.row.id for record in self.common(first)]
        return {
            "first": first.label,
            "second": second.label,
            "difference": self.difference([first], [second]),
            "wins": [name for name, (one, other) in zip(ids, pairs, strict=True) if other > one],
            "losses": [name for name, (one, other) in zip(ids, pairs, strict=True) if other < one],
            "ties": sum(one == other for one, other in pairs),
        }

    def warnings(self) -> list[str]:
        """Whatever makes the runs hard to compare, one line each."""
        lines = [
            f"{run.label} says nothing about its corpus, index, limits and versions: it is no evaluation of eval.run"
            for run in self.runs
            if not run.provenance
        ]
        lines += [
            f"only {len(self.keys)} of {len(run.records)} questions of {run.label} are in all runs"
            for run in self.runs
            if len(run.records) > len(self.keys)
        ]
        first, *others = self.runs
        for run in others:
            golds = sum(
                one.golds != other.golds for one, other in zip(self.common(first), self.common(run), strict=True)
            )
            if golds:
                lines.append(f"{golds} common questions have other gold answers in {first.label} than in {run.label}")
        return lines + list(_provenance_warnings([run for run in self.runs if run.provenance]))


def _provenance_warnings(runs: Sequence[ComparedFile]) -> Iterator[str]:
    flat = {run.label: dict(_flat(run.provenance)) for run in runs}
    for name in dict.fromkeys(name for values in flat.values() for name in values):
        found = {label: values.get(name) for label, values in flat.items()}
        expected = any(name == known or name.startswith(f"{known}.") for known in EXPECTED_TO_DIFFER)
        if not expected and len({str(value) for value in found.values()}) > 1:
            yield f"{name} differs: " + ", ".join(f"{label} {_short(value)}" for label, value in found.items())


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def _mean(records: Sequence[EpisodeRecord], metric: str) -> float | None:
    """Of an episode metric; None where a record does not tell it."""
    known = [record.metrics[metric] for record in records if metric in record.metrics]
    return round(sum(known) / len(known), 4) if len(known) == len(records) else None
