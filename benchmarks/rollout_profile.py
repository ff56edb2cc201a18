"""Where the executor's Python time goes, from py-spy's samples of its event loop.

`py-spy record --threads --format raw --rate 200 --output FILE -- python -m benchmarks.rollout_overhead ...`
`python -m benchmarks.rollout_profile NAME=FILE [NAME=FILE ...] [--markdown docs/results/rollout.md]`

A sample belongs to the innermost of our modules, vLLM or the event loop on its stack: a tokenizer called by
`r1_searcher/episode/rollout.py` is that module's time. Samples outside the event loop (imports, starting the
engine) and of other threads are left out.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results.page import markdown_table, replace_section
from foundation.cli import OneLineParser, run_command
from foundation.errors import InputError

_LOOP = re.compile(r"_run \(asyncio/events\.py|run_once \(uvloop|run \(asyncio/runners\.py|run \(uvloop")
_STARTING = re.compile(r"Engine\.(__init__|start)|from_engine_args|draw_scripts|make_model")
_MAIN = "MainThread"
_PLACE = re.compile(r"\((.*?)(?::\d+)?\)$")
OURS = "r1_searcher/"
_OWNERS = (OURS, "retriever/", "vllm/", "benchmarks/", "asyncio/")
"""Packages that own a sample, by the start of the path that py-spy shows."""
_SHOWN = 12


def owner(stack: Sequence[str]) -> str | None:
    """What a sample of the event loop was spent in; None for one that is not of the loop."""
    if _MAIN not in stack[0] or not any(map(_LOOP.search, stack)) or any(map(_STARTING.search, stack)):
        return None
    for frame in reversed(stack):
        found = _PLACE.search(frame)
        path = found.group(1) if found else ""
        package = next((each for each in _OWNERS if path.startswith(each) or f"/{each}" in path), None)
        if package == OURS:
            return path[path.rindex(OURS) :]
        if package is not None:
            return package.rstrip("/")
    return "asyncio"


def shares(raw: str) -> dict[str, float]:
    """Owner to its share of the event loop's samples. Raises ValueError for a file without any."""
    samples: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        if found := owner(stack.split(";")):
            samples[found] += int(count)
    if not samples:
        raise ValueError("no sample of an event loop in it; expected py-spy's raw format with --threads")
    return {name: count / samples.total() for name, count in samples.most_common()}


def table(profiles: dict[str, dict[str, float]]) -> str:
    """Owners in rows, profiles in columns, the largest first; our modules' sum at the end."""
    most = Counter[str]()
    for each in profiles.values():
        most |= Counter(each)
    lines = [_line(name, [each.get(name, 0.0) for each in profiles.values()]) for name, _ in most.most_common(_SHOWN)]
    ours = [sum(share for name, share in each.items() if name.startswith(OURS)) for each in profiles.values()]
    return markdown_table(["time of the event loop in", *profiles], [*lines, _line("**all of `r1_searcher`**", ours)])


def _line(name: str, values: Sequence[float]) -> list[str]:
    return [name, *(f"{100 * value:.1f} %" for value in values)]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = OneLineParser(prog="benchmarks.rollout_profile", description=__doc__)
    parser.add_argument("profiles", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args(argv)
    return run_command("benchmarks.rollout_profile", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    profiles = {}
    for each in options.profiles:
        name, _, file = each.partition("=")
        try:
            profiles[name] = shares(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{each}: {error}") from error
    text = table(profiles)
    print(text)
    if options.markdown:
        replace_section(options.markdown, "rollout profile", f"### Where the executor's Python time goes\n\n{text}")


if __name__ == "__main__":
    sys.exit(main())
