"""The picture of a two-stage training: what the policy did, over the steps of both stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, DPI = 12.0, 6.0, 100
_INK, _QUIET, _GRID = "#222222", "#666666", "#e6e6e6"
_AVERAGED_STEPS = 5


@dataclass(frozen=True)
class Curve:
    """One training metric; colours are Okabe and Ito's, which colour-blind readers can tell apart."""

    metric: str
    label: str
    color: str
    held_out: str = ""
    """Name of the same quantity in an evaluation's scores."""
    width: float = 2.6
    """Of the line; where curves lie on each other, the wider one shows behind the narrower."""


RETRIEVAL = Curve("retrieval/rate", "retrieval rate", "#0072B2", "retrieval_rate", width=2.2)
FORMAT = Curve("format/rate", "format rate", "#E69F00", "format_rate", width=5.0)
ANSWER_F1 = Curve("answer/f1", "answer F1", "#009E73", "f1")
REWARD = Curve("reward", "reward", "#CC79A7")
SEARCHES = Curve("retrieval/searches", "searches per episode", "#D55E00", "searches_per_question")
RATES = (FORMAT, RETRIEVAL, ANSWER_F1)


@dataclass(frozen=True)
class Stages:
    """Training metrics of each stage by step, and the held-out scores before, between and after them."""

    metrics: Sequence[Sequence[Mapping[str, Any]]]
    evaluations: Sequence[Mapping[str, Any]] = ()
    """One more than stages, decoded as training samples; empty where there are none."""

    @property
    def borders(self) -> list[int]:
        """Overall step at which each stage ends, with 0 before the first."""
        ends = [0]
        for steps in self.metrics:
            ends.append(ends[-1] + len(steps))
        return ends


def draw_curves(stages: Stages, path: Path) -> None:
    """Draw the picture into a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style: Any = {"font.size": 12, "axes.edgecolor": _QUIET, "text.color": _INK, "axes.labelcolor": _INK}
    style |= {"xtick.color": _QUIET, "ytick.color": _QUIET}
    with pyplot.rc_context(style):
        figure = pyplot.figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained")
        grid = figure.add_gridspec(2, 2, width_ratios=(1.7, 1))
        rates = figure.add_subplot(grid[:, 0])
        reward = figure.add_subplot(grid[0, 1], sharex=rates)
        searches = figure.add_subplot(grid[1, 1], sharex=rates)
        _panel(rates, stages, RATES, "Retrieval, format and answers")
        _panel(reward, stages, (REWARD,), "Reward (each stage has its own)")
        _panel(searches, stages, (SEARCHES,), "Searches per episode")
        rates.set_ylim(-0.03, 1.06)
        searches.set_ylim(bottom=0)
        reward.tick_params(labelbottom=False)
        rates.set_xlabel(f"training step (thin line: each step, thick: mean of {_AVERAGED_STEPS})")
        searches.set_xlabel("training step")
        _legend(rates, stages)
        figure.savefig(path)
        pyplot.close(figure)


def _panel(axes: Any, stages: Stages, curves: Sequence[Curve], title: str) -> None:
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=24)
    axes.grid(axis="y", color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    borders = stages.borders
    axes.set_xlim(0, 1.01 * borders[-1])
    for number, (start, end) in enumerate(zip(borders, borders[1:], strict=False), start=1):
        middle = (start + end) / 2
        axes.text(middle, 1.02, f"stage {number}", transform=axes.get_xaxis_transform(), ha="center", color=_QUIET)
        if start:
            axes.axvline(start, color=_QUIET, linestyle=(0, (4, 3)), linewidth=1.2)
    for curve in curves:
        _draw(axes, stages, curve)


def _draw(axes: Any, stages: Stages, curve: Curve) -> None:
    for start, steps in zip(stages.borders, stages.metrics, strict=False):
        values = [_number(step.get(curve.metric)) for step in steps]
        places = range(start + 1, start + len(values) + 1)
        axes.plot(places, values, color=curve.color, linewidth=1, alpha=0.3)
        axes.plot(places, _moving_mean(values), color=curve.color, linewidth=curve.width, solid_capstyle="round")
    for place, scores in zip(stages.borders, stages.evaluations, strict=False):
        if curve.held_out:
            marker = {
                "marker": "o",
                "markersize": 6.5 + curve.width,
                "markeredgecolor": "white",
                "markeredgewidth": 1.5,
            }
            axes.plot(place, scores[curve.held_out], color=curve.color, clip_on=False, zorder=5, **marker)


def _legend(axes: Any, stages: Stages) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=curve.color, linewidth=curve.width, label=curve.label)
        for curve in (RETRIEVAL, FORMAT, ANSWER_F1)
    ]
    if stages.evaluations:
        dot: dict[str, Any] = {"marker": "o", "markersize": 8, "linestyle": "none", "color": _QUIET}
        handles.append(Line2D([], [], **dot, label="on held-out questions"))
    axes.legend(handles=handles, loc="lower right", frameon=True, facecolor="white", edgecolor="none", framealpha=0.9)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _moving_mean(values: Sequence[float]) -> list[float]:
    """Mean of each value and its neighbours, fewer of them at the ends."""
    reach = _AVERAGED_STEPS // 2
    windows = [values[max(at - reach, 0) : at + reach + 1] for at in range(len(values))]
    known = [[value for value in window if value == value] for window in windows]
    return [sum(window) / len(window) if window else float("nan") for window in known]
