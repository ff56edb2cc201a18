"""A progress bar that carries the scores so far."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

from eval.results.summary import SCORES
from r1_searcher.run.episode_record import EpisodeRecord

_SHOWN = {"f1": "F1", "em": "EM", "retrieval_rate": "retrieval", "format_rate": "format"}
_SECONDS_BETWEEN_LINES = 10.0


class ProgressBar:
    """One decoding's bar, on a console; where that is a file it writes a line now and then."""

    def __init__(self, name: str, total: int, console: TextIO, earlier: Iterable[EpisodeRecord] = ()) -> None:
        self._sums = dict.fromkeys(_SHOWN, 0.0)
        self._scored = 0
        self._failed = 0
        earlier = list(earlier)
        for record in earlier:
            self._count(record)
        interval = 0.1 if console.isatty() else _SECONDS_BETWEEN_LINES
        self._bar = tqdm(
            total=total,
            initial=len(earlier),
            desc=name,
            unit="q",
            file=console,
            mininterval=interval,
            ncols=120,
        )

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def add(self, record: EpisodeRecord) -> None:
        """Count a finished question."""
        self._count(record)
        self._bar.set_postfix_str(self.scores, refresh=False)
        self._bar.update()

    @property
    def scores(self) -> str:
        """The scores so far, in one line."""
        means = [f"{label} {self._sums[name] / max(self._scored, 1):.2f}" for name, label in _SHOWN.items()]
        failed = [f"search failed {self._failed}"] if self._failed else []
        return ", ".join(means + failed)

    def _count(self, record: EpisodeRecord) -> None:
        if record.failed:
            self._failed += 1
            return
        self._scored += 1
        for name in _SHOWN:
            self._sums[name] += record.metrics[SCORES[name]]
