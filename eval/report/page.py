"""Renders the page from what was read."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from eval.report.chains import find_chains
from eval.report.curves import chain_curves
from eval.report.embedding import Archive, embed
from eval.report.episodes import list_entry, whole_episode
from eval.report.reading import read_selected, select
from eval.report.results import results
from eval.report.runs import ReportedRun
from eval.report.tokens import TokenTexts

_ASSETS = resources.files("eval.report") / "assets"
_STYLES = ("base.css", "overview.css", "episodes.css")
_SCRIPTS = (
    "elements.js",
    "data.js",
    "axes.js",
    "chart.js",
    "overview.js",
    "filters.js",
    "list.js",
    "tokens.js",
    "transcript.js",
    "episode.js",
    "main.js",
)
"""In the order in which they stand in the page: each may use what those before it define."""


@dataclass(frozen=True)
class Report:
    """A rendered report, and what it holds."""

    html: str
    episodes: int
    available: int
    """Episodes that the runs have."""
    unreadable: int
    """Whole lines that are no episode."""


def build_report(runs: Sequence[ReportedRun], title: str, *, limit: int, tokens: TokenTexts | None) -> Report:
    """Read the runs and render the page.

    Args:
        limit: episodes at most; of more, a sample that is spread evenly over the runs.
        tokens: shows token boundaries, where there is a tokenizer.
    """
    selection = select(runs, limit)
    archive = Archive()
    taken = unreadable = 0
    for episode in read_selected(runs, selection):
        if episode is None:
            unreadable += 1
            continue
        entry = {"run": runs.index(episode.run), **list_entry(episode)}
        archive.add(episode.record.row, entry, whole_episode(episode, tokens))
        taken += 1
    index = archive.finish()
    available = sum(selection.available.values())
    chains = find_chains(runs)
    head = {
        "runs": [_about(run, selection.available[run]) for run in runs],
        "rules": _rules(runs),
        "curves": [chain_curves(chain) for chain in chains],
        "results": results(runs, chains),
        "available": available,
        "unreadable": unreadable,
        "token_level": tokens is not None,
    }
    html = _render(title=title, head=embed(head), index=index, chunks=archive.chunks)
    return Report(html, taken, available, unreadable)


def _about(run: ReportedRun, available: int) -> dict[str, Any]:
    """A run as the page describes it."""
    rewards, recipe = run.rewards, run.recipe
    return {
        "name": run.name,
        "kind": run.kind.value,
        "complete": run.is_complete,
        "available": available,
        "tags": run.protocol.tags if run.protocol else (),
        "weights": {name: part.weight for reward in rewards for name, part in reward.parts.items()},
        "reward_citation": "; then ".join(reward.citation for reward in rewards),
        "facts": {
            "recipe": recipe.get("name", ""),
            "protocol": recipe.get("protocol", ""),
            "reward": ", then ".join(reward.name for reward in rewards) or recipe.get("reward", ""),
            "limits": ", ".join(
                f"{name.replace('_', ' ')} {value}" for name, value in recipe.get("limits", {}).items()
            ),
            "documents": "trained" if recipe.get("train_on_documents") else "masked",
            "model": _model(run),
        },
    }


def _model(run: ReportedRun) -> str:
    """The last two parts of the model's path or name: what a training began with, or an evaluation asked."""
    provenance = run.scores.provenance if run.scores is not None else {}
    model = run.initial_model or provenance.get("model", {}).get("path", "")
    return "/".join(Path(model).parts[-2:])


def _rules(runs: Sequence[ReportedRun]) -> dict[str, str]:
    """Name of each format rule -> what it asks for, as its function says."""
    rules = {name: rule for run in runs for name, rule in run.rules.items()}
    return {name: " ".join((rule.__doc__ or "").split("\n\n")[0].split()) for name, rule in rules.items()}


def _render(*, title: str, head: str, index: str, chunks: Sequence[str]) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    styles, scripts = ("\n".join(map(_asset, names)) for names in (_STYLES, _SCRIPTS))
    return environment.from_string(_asset("page.html")).render(
        title=title,
        script_hash=_hash_of(scripts),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        styles=Markup(styles),
        scripts=Markup(scripts),
        head=head,
        index=index,
        chunks=chunks,
    )


def _hash_of(script: str) -> Markup:
    """What a browser compares with an inline script before it runs it: the element's whole text."""
    digest = hashlib.sha256(f"\n{script}\n".encode()).digest()
    return Markup(f"sha256-{base64.b64encode(digest).decode()}")


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
