"""Renders the page from what was read."""

from __future__ import annotations

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
from eval.report.episodes import Episode
from eval.report.reading import read_lines, select
from eval.report.results import results
from eval.report.sources import Source
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
    """Episodes that the sources have."""
    unreadable: int
    """Whole lines that are no episode."""


def build_report(sources: Sequence[Source], title: str, *, limit: int, tokens: TokenTexts | None) -> Report:
    """Read the sources and render the page.

    Args:
        limit: episodes at most; of more, a sample that is spread evenly over the sources.
        tokens: shows token boundaries, where there is a tokenizer.
    """
    selection = select(sources, limit)
    archive = Archive()
    taken = unreadable = 0
    for line in read_lines(sources, selection):
        try:
            episode = Episode.of(line)
        except (KeyError, TypeError, ValueError):
            unreadable += 1
            continue
        entry = {"source": sources.index(line.source), **episode.entry()}
        archive.add(episode.trajectory.row, entry, episode.whole(tokens))
        taken += 1
    index = archive.finish()
    available = sum(selection.available.values())
    chains = find_chains(sources)
    head = {
        "sources": [_about(source, selection.available[source.name]) for source in sources],
        "rules": _rules(sources),
        "curves": [chain_curves(chain) for chain in chains],
        "results": results(sources, chains),
        "available": available,
        "unreadable": unreadable,
        "token_level": tokens is not None,
    }
    html = _render(title=title, head=embed(head), index=index, chunks=archive.chunks)
    return Report(html, taken, available, unreadable)


def _about(source: Source, available: int) -> dict[str, Any]:
    """What the page says of a source."""
    rewards, recipe = source.rewards, source.recipe
    return {
        "name": source.name,
        "kind": source.kind.value,
        "complete": source.is_complete,
        "available": available,
        "tags": source.protocol.tags if source.protocol else (),
        "weights": {name: part.weight for reward in rewards for name, part in reward.parts.items()},
        "reward_source": "; then ".join(reward.source for reward in rewards),
        "facts": {
            "recipe": recipe.get("name", ""),
            "protocol": recipe.get("protocol", ""),
            "reward": ", then ".join(reward.name for reward in rewards) or recipe.get("reward", ""),
            "limits": ", ".join(
                f"{name.replace('_', ' ')} {value}" for name, value in recipe.get("limits", {}).items()
            ),
            "documents": "trained" if recipe.get("train_on_documents") else "masked",
            "model": _model(source),
        },
    }


def _model(source: Source) -> str:
    """The last two parts of the model's path or name: what a training began with, or an evaluation asked."""
    provenance = source.scores.get("provenance", {})
    model = source.initial_model or provenance.get("model", {}).get("path", "")
    return "/".join(Path(model).parts[-2:])


def _rules(sources: Sequence[Source]) -> dict[str, str]:
    """Name of each format rule -> what it asks for, as its function says."""
    rules = {name: rule for source in sources for reward in source.rewards for name, rule in reward.rules.items()}
    return {name: " ".join((rule.__doc__ or "").split("\n\n")[0].split()) for name, rule in rules.items()}


def _render(*, title: str, head: str, index: str, chunks: Sequence[str]) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("page.html")).render(
        title=title,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        styles=Markup("\n".join(map(_asset, _STYLES))),
        scripts=Markup("\n".join(map(_asset, _SCRIPTS))),
        head=head,
        index=index,
        chunks=chunks,
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
