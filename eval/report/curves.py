"""The curves of a report: the metrics of each panel, and their series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval.report.chains import Chain, Placed
from eval.results.summary import SCORES

SHORT = 4
"""Decimals are cut to this many significant digits beyond the first: what a curve can show."""


@dataclass(frozen=True)
class Panel:
    """Metrics that are drawn on the same axes."""

    title: str
    metrics: tuple[str, ...]
    """Names as they are logged; `group/` takes every metric of a group."""
    note: str = ""
    rate: bool = False
    """Whether the values are shares, drawn on 0..1."""
    stacked: bool = False
    """Whether the values are shares of one whole."""


PANELS = (
    Panel("Answers", ("answer/f1", "answer/em", "answer/cover_em"), "mean over the episodes of a step", rate=True),
    Panel("Retrieval and format", ("retrieval/rate", "format/rate"), "share of episodes", rate=True),
    Panel("Reward", ("reward", "reward/"), "in all, and each part with its weight"),
    Panel("Why episodes ended", ("stop/",), "share of episodes", rate=True, stacked=True),
    Panel("Searches per episode", ("retrieval/searches",)),
    Panel("Tokens per episode", ("tokens/action", "tokens/documents"), "written by the policy, and shown to it"),
    Panel("Format rules", ("rule/",), "share of episodes that keep each", rate=True),
    Panel("Spread within a group", ("group_reward_std", "rollout/reward_std"), "standard deviation of the reward"),
    Panel("Policy entropy", ("entropy_loss",), "nats per token"),
    Panel("KL to the reference", ("kl",), "per token"),
    Panel("Engine against trainer", ("vllm_kl",), "KL of the log-probs of the same tokens"),
    Panel("Gradient norm", ("actor_grad_norm", "critic_grad_norm")),
    Panel("Policy loss", ("policy_loss", "critic_loss")),
    Panel("Search latency", ("retrieval/seconds",), "seconds per search, as the episode saw it"),
    Panel("Failed searches", ("retrieval/failed_attempts", "stop/retriever_error"), "per episode"),
    Panel(
        "Groups without variance",
        ("episodes/dead_groups",),
        "share of all groups, solved questions not counted",
        rate=True,
    ),
    Panel("Words of thinking", ("episodes/think_words",), "per episode"),
    Panel("Forged tags, repeated queries", ("episodes/forged", "episodes/repeated_queries"), rate=True),
    Panel(
        "Entropy of sampled text",
        ("episodes/entropy", "episodes/open_entropy"),
        "nats per token; open: unsolved questions",
    ),
    Panel("Size of an update", ("guard/update_size",), "learning rate as a share of the weights"),
    Panel("Time", ("timing/",), "seconds per step"),
)
"""In the order of the page. What no panel names comes after them, one metric a panel."""

_NOT_METRICS = frozenset({"step", "time"})


def chain_curves(chain: Chain) -> dict[str, Any]:
    """The panels and series of a chain, as JSON.

    `steps` holds `[run, step of the run]` per overall step; a series has one value per overall step, None where
    nothing was logged.
    """
    lines = [(number, line) for number, run in enumerate(chain.runs) for line in run.metrics]
    names = sorted({name for _, line in lines for name, value in line.items() if _is_number(value)} - _NOT_METRICS)
    return {
        "runs": [{"name": run.name, "complete": run.is_complete} for run in chain.runs],
        "borders": chain.borders,
        "steps": [[number, line["step"]] for number, line in lines],
        "values": {name: [_short(line.get(name)) for _, line in lines] for name in names},
        "panels": _panels(names),
        "held_out": [held for placed in chain.evaluations for held in _held_out(placed)],
    }


def _panels(names: Sequence[str]) -> list[dict[str, Any]]:
    """The panels that have anything to show, and the metrics that no panel names."""
    panels, shown = [], set[str]()
    for panel in PANELS:
        found = [name for wanted in panel.metrics for name in names if _matches(name, wanted)]
        shown.update(found)
        if found:
            panels.append({**vars(panel), "metrics": found, "other": False})
    return panels + [{**vars(Panel(name, ())), "metrics": [name], "other": True} for name in names if name not in shown]


def _matches(name: str, wanted: str) -> bool:
    return name.startswith(wanted) if wanted.endswith("/") else name == wanted


def _held_out(placed: Placed) -> list[dict[str, Any]]:
    """The scores of an evaluation as points of the curves of the same quantities, by decoding."""
    scores, step = placed.evaluation.scores, placed.step
    return [
        {"step": step, "decoding": decoding, "values": {SCORES[name]: block[name] for name in SCORES if name in block}}
        for decoding, block in (scores.blocks.items() if scores is not None else ())
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> float | None:
    """The value with the digits that can be seen; None where it is no finite number."""
    if not _is_number(value) or not math.isfinite(value):
        return None
    return float(f"{value:.{SHORT + 1}g}")
