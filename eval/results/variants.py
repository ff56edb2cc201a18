"""Every variant of the answer metrics, side by side: those that a system publishes, and the rest of the grid.

Published numbers differ by normaliser and by what "covered" means, so a comparison across papers needs them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from r1_searcher.reward.metrics import (
    METRICS,
    NORMALIZERS,
    Metric,
    Normalizer,
    cover_exact_match,
    exact_match,
    f1,
    substring_match,
)
from r1_searcher.run.episode_record import EpisodeRecord


def _of(normalizer: Normalizer) -> dict[str, Metric]:
    return {
        f"{normalizer.name}.em": partial(exact_match, normalizer=normalizer),
        f"{normalizer.name}.cover_em": partial(cover_exact_match, normalizer=normalizer),
        f"{normalizer.name}.substring": partial(substring_match, normalizer=normalizer),
        f"{normalizer.name}.f1": partial(f1, normalizer=normalizer, yes_no_rule=False),
    }


VARIANTS: Mapping[str, Metric] = {
    name: METRICS.get(name, metric)
    for normalizer in NORMALIZERS.values()
    for name, metric in {
        **_of(normalizer),
        **{name: metric for name, metric in METRICS.items() if name.startswith(f"{normalizer.name}.")},
    }.items()
}
"""EM, word cover, substring cover and F1 under each normaliser, and the published ones beyond them; what
`r1_searcher.reward.metrics.METRICS` names is that, R1-Searcher's yes/no rule included."""

DEFAULT_METRICS = {"em": "r1_searcher.em", "cover_em": "r1_searcher.cover_em", "f1": "r1_searcher.f1"}
"""Short key -> variant: R1-Searcher's definitions, which a number without a definition means."""

_IN_RECORDS = {name: f"answer/{key}" for key, name in DEFAULT_METRICS.items()}


def variant(record: EpisodeRecord, name: str) -> float:
    """A variant's value: that of the record's own metrics where they hold it."""
    if name in _IN_RECORDS:
        return record.metrics[_IN_RECORDS[name]]
    return VARIANTS[name](record.answer, record.golds)
