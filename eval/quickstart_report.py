"""What a two-stage training changed: `python -m eval.quickstart_report DIR`.

Reads a quickstart's folder, writes `summary.json` into it and prints the table. (Curves and episodes are in the
page that `python -m eval.report DIR` makes.) ::

    base/scores.json  stage1/scores.json  stage2/scores.json     evaluations by eval.run
    seconds.tsv (or .json)                                       wall seconds of each phase
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.results.folder import SCORES_FILE
from eval.results.folder_summary import DECODINGS, join_tables, summary_command
from eval.results.scores import Scores, percent, scores_table
from foundation.errors import InputError
from foundation.files import read_json
from foundation.text_table import format_table

MODELS = ("base", "stage1", "stage2")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; a missing file is one line on stderr and status 2."""
    return summary_command("eval.quickstart_report", __doc__, argv, summarize_quickstart, report)


def summarize_quickstart(folder: Path) -> dict[str, Any]:
    """Per model the block of scores of each decoding, as in `scores.json`, and the seconds of each phase."""
    summary: dict[str, Any] = {}
    for model in MODELS:
        file = folder / model / SCORES_FILE
        scores = Scores.read(file)
        if "greedy" not in scores.blocks:
            raise InputError(f"{file} holds no greedy scores, found {sorted(scores.blocks)}")
        summary[model] = scores.blocks
    summary["seconds"] = _read_seconds(folder)
    return summary


def report(summary: Mapping[str, Any]) -> str:
    """Before and after on the held-out questions, by decoding, and where the time went; as text."""
    parts = []
    for decoding in DECODINGS:
        found = {model: summary[model][decoding] for model in MODELS if decoding in summary[model]}
        if found:
            parts.append(f"held-out questions, {decoding}\n\n{scores_table(found)}")
            parts += [f"F1 % by hops, {decoding}\n\n{_hops_table(found)}"] * any(map(_hops, found.values()))
    return join_tables(parts, summary["seconds"])


def _hops(block: Mapping[str, Any]) -> Mapping[str, Any]:
    return block.get("by_hops", {})


def _hops_table(blocks: Mapping[str, Mapping[str, Any]]) -> str:
    hops = sorted({number for block in blocks.values() for number in _hops(block)}, key=int)
    return format_table(
        ["", *(f"{number}-hop" for number in hops)],
        [
            [
                model,
                *(percent(_hops(block)[number]["f1"]) if number in _hops(block) else "-" for number in hops),
            ]
            for model, block in blocks.items()
        ],
    )


def _read_seconds(folder: Path) -> dict[str, float]:
    """Seconds by phase; lines `phase<TAB>seconds` of interrupted and resumed phases add up."""
    lines = folder / "seconds.tsv"
    if not lines.is_file():
        return read_json(folder / "seconds.json")
    seconds: dict[str, float] = {}
    for line in lines.read_text(encoding="utf-8").splitlines():
        phase, value = line.split("\t")
        seconds[phase] = seconds.get(phase, 0.0) + float(value)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
