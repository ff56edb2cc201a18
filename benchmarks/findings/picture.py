"""A finding's training curves: the mean of the seeds per arm, with a band from the lowest to the highest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.findings.catalogue import PublishedFinding
from benchmarks.findings.rows import Row

TITLES = {
    "answer/f1": "F1 of the training batch",
    "format/rate": "share of well-formed episodes",
    "retrieval/rate": "share of episodes that search",
    "retrieval/searches": "searches per episode",
    "tokens/action": "tokens written per episode",
}
WINDOW = 5
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def draw(finding: PublishedFinding, rows: Mapping[str, Mapping[int, Row]], file: Path) -> None:
    """Draw the curves of the arms that have some; a panel per metric."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        1, len(finding.curves), figsize=(5.5 * len(finding.curves), 3.8), squeeze=False, layout="constrained"
    )
    for axis, metric in zip(grid[0], finding.curves, strict=True):
        for colour, arm in zip(COLOURS, finding.arms, strict=False):
            curves = [row["curves"][metric] for row in rows[arm.name].values() if row["curves"].get(metric)]
            if curves:
                _band(axis, curves, colour, f"{arm.label} ({len(curves)})")
        axis.set(title=TITLES.get(metric, metric), xlabel="training step")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    grid[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=100, metadata={"Software": None})
    pyplot.close(figure)


def _band(axis: object, curves: Sequence[Sequence[float | None]], colour: str, label: str) -> None:
    steps = min(map(len, curves))
    smooth = np.array([smoothed(curve[:steps]) for curve in curves])
    places = range(1, steps + 1)
    axis.fill_between(places, smooth.min(0), smooth.max(0), color=colour, alpha=0.18, linewidth=0)  # type: ignore[attr-defined]
    axis.plot(places, smooth.mean(0), color=colour, linewidth=1.8, label=label)  # type: ignore[attr-defined]


def smoothed(values: Sequence[float | None]) -> list[float]:
    """Means over the last `WINDOW` steps; steps without a value are left out."""
    known = [np.nan if value is None else value for value in values]
    return [float(np.nanmean(known[max(0, place - WINDOW + 1) : place + 1])) for place in range(len(known))]
