"""From real searches to training data of a simulated search engine: `python -m data_prep.simulator_data SOURCES …`.

Pairs of query and documents are collected from episodes, judged useful or noisy, and written as rows for
`python -m r1_searcher.sft` in the words that the simulator will be asked with.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random

from data_prep.simulator.labels import by_model, by_rule
from data_prep.simulator.pairs import SearchPair, find_episodes, mixed_blocks, pairs_of, unique
from data_prep.simulator.rows import sft_rows
from foundation.chat.endpoint import EndpointConfig
from foundation.cli import OneLineParser, log_to_stderr, run_command
from foundation.errors import InputError
from foundation.files import write_json
from foundation.json_lines import write_json_lines
from foundation.owned_folder import held
from r1_searcher.recipe.plugins import add_plugin_option
from retriever.simulated.prompts import MODES

logger = logging.getLogger(__name__)

PAIRS, ROWS, COUNTS, VERDICTS = "pairs.jsonl", "sft.jsonl", "counts.json", "verdicts.jsonl"


def collect(sources: Iterable[Path]) -> tuple[list[SearchPair], dict[str, int]]:
    """The different pairs of all sources, and how many episodes, searches and mixed blocks there were.

    Raises:
        InputError: a source holds no episodes, or none of them searched.
    """
    counts: Counter[str] = Counter()
    found: list[SearchPair] = []
    for source in sources:
        episodes = find_episodes(source)
        for record in episodes.read():
            pairs = list(pairs_of(record.trajectory, episodes.protocol))
            found += pairs
            counts.update(episodes=1, searches=record.trajectory.n_searches, real_searches=len(pairs))
            counts.update(mixed_blocks=mixed_blocks(record.trajectory, episodes.protocol))
    if counts["mixed_blocks"]:
        logger.warning(
            "%d document blocks are left out: several searches filled each, and which found what is not recorded",
            counts["mixed_blocks"],
        )
    pairs = unique(found)
    if not pairs:
        raise InputError(f"no real search in {counts['episodes']} episodes: nothing to learn from")
    return pairs, dict(counts) | {"pairs": len(pairs)}


def _run(options: argparse.Namespace) -> None:
    with held(options.out):
        _make(options)


def _make(options: argparse.Namespace) -> None:
    pairs, counts = collect(options.sources)
    verdicts = _verdicts(pairs, options)
    rows = sft_rows(pairs, verdicts, options.mode, Random(options.seed))
    if not rows:
        raise InputError(f"none of {len(pairs)} pairs was judged: no rows to write")
    labels = {True: "useful", False: "noisy", None: "unjudged"}
    counts |= {name: verdicts.count(verdict) for verdict, name in labels.items()} | {"rows": len(rows)}
    labelled = [asdict(pair) | {"label": labels[each]} for pair, each in zip(pairs, verdicts, strict=True)]
    write_json_lines(options.out / PAIRS, labelled)
    write_json_lines(options.out / ROWS, rows)
    write_json(options.out / COUNTS, counts)
    logger.info("%s: %s", options.out, counts)


def _verdicts(pairs: Sequence[SearchPair], options: argparse.Namespace) -> list[bool | None]:
    if options.judge == "rule":
        return [by_rule(pair) for pair in pairs]
    if not (options.judge_url and options.judge_model):
        raise InputError("the judge llm needs --judge-url and --judge-model; or take --judge rule")
    return by_model(pairs, EndpointConfig(options.judge_url, options.judge_model), options.out / VERDICTS)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    options = _parser().parse_args(argv)
    log_to_stderr()
    return run_command("data_prep.simulator_data", lambda: _run(options))


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="data_prep.simulator_data", description=__doc__)
    add = parser.add_argument
    add("sources", type=Path, nargs="+", help="folders of runs or evaluations that searched for real")
    add("--out", type=Path, required=True, help=f"folder for {PAIRS}, {ROWS} and {COUNTS}")
    add("--mode", choices=MODES, default="sft", help="prompt of the simulator (default sft)")
    add("--judge", choices=("llm", "rule"), default="llm", help="what decides whether documents answer their query")
    add("--judge-url", default="", help="OpenAI-compatible endpoint of the judge llm")
    add("--judge-model", default="", help="model of the judge llm")
    add("--seed", type=int, default=0, help="seed of the noisy targets and the order (default 0)")
    add_plugin_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
