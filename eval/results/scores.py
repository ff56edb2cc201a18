"""`scores.json`: a block of scores per way of sampling (see `eval.results.summary`), what they are of, and their table.

    {"greedy": {"n": 250, "f1": 0.91, ...}, "sampled": {...}, "provenance": {...}}

`eval.run` and `eval.score --json` write it; the quickstart's summary, the report and the benchmarks read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.results.folder import EvaluationFolder
from foundation.errors import InputError
from foundation.files import read_json, write_json
from foundation.text_table import format_table

_PROVENANCE = "provenance"


@dataclass(frozen=True)
class Scores:
    """The scores of an evaluation or of a file of predictions."""

    blocks: Mapping[str, Mapping[str, Any]]
    """By name of the decoding."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Settings, versions and fingerprints; empty for predictions of unknown origin."""

    @classmethod
    def read(cls, path: Path) -> Scores:
        """The scores of a file.

        Raises:
            InputError: it is missing, or is no such file.
        """
        if not path.is_file():
            raise InputError(f"scores not found: {path} (expected the scores.json of an evaluation)")
        content = read_json(path)
        provenance = content.pop(_PROVENANCE, {})
        flat = sorted(name for name, block in content.items() if not isinstance(block, Mapping) or "n" not in block)
        if flat:
            raise InputError(
                f"{path}: expected a block of scores per decoding, found {', '.join(flat[:3])} at the top level; make "
                "a file of an older eval.score again"
            )
        return cls(content, provenance)

    def write(self, path: Path) -> None:
        """Write the file whole or not at all. Raises as `foundation.files.write_whole` does."""
        write_json(path, {**self.blocks, _PROVENANCE: dict(self.provenance)})

    def __getitem__(self, decoding: str) -> Mapping[str, Any]:
        """The block of a decoding. Raises `InputError` naming those that there are."""
        if decoding not in self.blocks:
            raise InputError(f"no {decoding} scores, found {', '.join(self.blocks) or 'none'}")
        return self.blocks[decoding]


def provenance_beside(predictions: Path) -> dict[str, Any]:
    """What is known of an evaluation's predictions: the provenance of its scores, else its settings; else nothing."""
    folder = EvaluationFolder(predictions.parent)
    if not folder.settings_file.is_file():  # somebody else's file, and so is a scores.json beside it
        return {}
    if folder.scores_file.is_file():
        return dict(Scores.read(folder.scores_file).provenance)
    return read_json(folder.settings_file)


def scores_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """One line per labelled block of scores; rates in per cent."""
    header = ["", "n", "retrieval %", "format %", "EM %", "cover-EM %", "F1 %", "searches"]
    rates = ("retrieval_rate", "format_rate", "em", "cover_em", "f1")
    lines = []
    for label, block in rows.items():
        searches = f"{block['searches_per_question']:.2f}"
        lines.append([label, str(block["n"]), *(percent(block[name]) for name in rates), searches])
    return format_table(header, lines)


def percent(fraction: float) -> str:
    """A fraction as it stands in our tables: `58.4`."""
    return f"{100 * fraction:.1f}"


def percent_with_interval(fraction: float, interval: Sequence[float]) -> str:
    """`58.4 [54.2, 62.4]`."""
    return f"{percent(fraction)} [{percent(interval[0])}, {percent(interval[1])}]"
