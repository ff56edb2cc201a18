"""Score finished trajectories with any reward: `python -m eval.rescore TRAJECTORIES --reward NAME --json OUT`.

Reads our own rows and the published ones, one file, several, or folders of them. `--list` names the rewards;
`--compare NAME` shows where a second reward gives another total, and why.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.results import predictions
from eval.results.recorded import episode_files, recorded_system
from eval.results.summary import FAILURES, failures
from foundation.cli import OneLineParser, check_output, log_to_stderr, run_command
from foundation.errors import InputError
from foundation.files import write_json
from foundation.text_table import format_table
from r1_searcher.episode.protocol import Protocol
from r1_searcher.recipe.plugins import add_plugin_option
from r1_searcher.recipe.protocols import PROTOCOLS, R1_SEARCHER_BASE, find_protocol
from r1_searcher.recipe.recipe import RECIPES
from r1_searcher.reward.rewards import REWARDS, Reward, RewardResult, find_reward, score
from r1_searcher.run.episode_record import EpisodeRecord

logger = logging.getLogger(__name__)

DECIMALS = 6
"""Of totals in the JSON file."""
EXAMPLES = 3
"""Rows that are shown of each reason for a difference."""


@dataclass(frozen=True)
class Difference:
    """A trajectory on which two rewards disagree."""

    index: int
    place: str
    """`path:n`, the n-th trajectory of a file."""
    question: str
    first: RewardResult
    second: RewardResult

    @property
    def reason(self) -> str:
        """What one saw and the other did not."""
        only = (self.first.broken - self.second.broken, self.second.broken - self.first.broken)
        if not any(only):
            return "the same rules fired; parts or weights differ"
        return "; ".join(
            f"only the {which} reward fired {', '.join(sorted(names))}"
            for which, names in zip(("first", "second"), only, strict=True)
            if names
        )


def default_protocol(reward: Reward, paths: Sequence[Path]) -> Protocol:
    """The protocol that the trajectories were played with, else that of the first recipe with the reward.

    A reward that mirrors R1-Searcher's published servers is for their texts, where nothing else is known.

    Raises:
        InputError: nothing says it, or the trajectories are of several protocols; `--protocol` must say.
    """
    folders = dict.fromkeys(folder for path in paths for folder in (path, path.parent, path.parent.parent))
    played = {system.protocol.name: system.protocol for system in map(recorded_system, folders) if system is not None}
    if len(played) > 1:
        raise InputError(f"the trajectories are of the protocols {', '.join(played)}; rescore those of one at a time")
    trained = (recipe.protocol for recipe in RECIPES.values() if recipe.reward.name == reward.name)
    mirrored = () if reward.rules is None else (R1_SEARCHER_BASE,)
    for protocol in (*played.values(), *trained, *mirrored):
        return protocol
    raise InputError(f"nothing says whose tags the texts have; pass --protocol, one of: {', '.join(PROTOCOLS)}")


def trajectory_files(paths: Sequence[Path]) -> list[Path]:
    """The files themselves, the episodes of runs and evaluations, and the `*.jsonl` of other folders, by name.

    Raises:
        InputError: a path is missing, or a folder holds no such file.
    """
    files: list[Path] = []
    for path in paths:
        found = [path] if path.is_file() else episode_files(path) or sorted(path.glob("*.jsonl"))
        if not found:
            raise InputError(f"no trajectories at {path} (expected a JSONL file, or a folder of them)")
        files += found
    return files


def read_records(files: Sequence[Path], protocol: Protocol) -> dict[str, EpisodeRecord]:
    """Every record by its place, `path:n` for the n-th of a file, in order of files and lines.

    Raises:
        InputError: a line cannot be read (with its number).
    """
    return {
        f"{file}:{number}": record
        for file in files
        for number, record in enumerate(predictions.read_records(file, protocol, needs="completion"), start=1)
    }


def rescore(records: Iterable[EpisodeRecord], reward: Reward, protocol: Protocol) -> list[RewardResult]:
    """The reward of every trajectory; a judge's verdict that stands beside one counts."""
    return [score(reward, record.trajectory, protocol, record.judged) for record in records]


def _total(result: RewardResult) -> float:
    return round(result.total, DECIMALS)


def rules_tally(results: Sequence[RewardResult]) -> dict[str, int]:
    """Rule -> trajectories that broke it, rules that never fired included."""
    fired = Counter(name for result in results for name in result.broken)
    return {name: fired[name] for name in results[0].rules}


def differences(
    records: Mapping[str, EpisodeRecord], first: Sequence[RewardResult], second: Sequence[RewardResult]
) -> list[Difference]:
    """The trajectories whose totals differ."""
    rows = enumerate(zip(records.items(), first, second, strict=True))
    return [
        Difference(index, place, record.row.question, one, other)
        for index, ((place, record), one, other) in rows
        if _total(one) != _total(other)
    ]


def report(
    reward: str, protocol: Protocol, records: Iterable[EpisodeRecord], results: Sequence[RewardResult]
) -> dict[str, Any]:
    """What `--json` writes: totals in order, and how often each rule fired."""
    totals = [_total(result) for result in results]
    return {
        "reward": reward,
        "protocol": protocol.name,
        "n": len(totals),
        "scores": totals,
        "mean": round(sum(totals) / len(totals), DECIMALS),
        **failures(records),
        "rules": rules_tally(results),
    }


def comparison(reward: str, results: Sequence[RewardResult], found: Sequence[Difference]) -> dict[str, Any]:
    """The part of `--json` about the second reward."""
    return {
        "reward": reward,
        "scores": [_total(result) for result in results],
        "differing": [difference.index for difference in found],
        "reasons": dict(Counter(difference.reason for difference in found).most_common()),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    options = _parser().parse_args(argv)
    log_to_stderr()
    return run_command("eval.rescore", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if options.list:
        width = max(map(len, REWARDS))
        print("\n".join(f"{name.ljust(width)}  {reward.citation}" for name, reward in REWARDS.items()))
        return
    if not options.trajectories or not options.reward:
        raise InputError("expected trajectories and --reward NAME (--list names the rewards)")
    check_output(options.json)
    reward = find_reward(options.reward)
    other = find_reward(options.compare) if options.compare else None
    protocol = find_protocol(options.protocol) if options.protocol else default_protocol(reward, options.trajectories)
    files = trajectory_files(options.trajectories)
    records = read_records(files, protocol)
    if not records:
        raise InputError(f"no trajectories in {', '.join(map(str, files))}")
    if any(record.judged is None for record in records.values()):
        for said in filter(None, (each.without_judge for each in (reward, other) if each is not None)):
            logger.warning("%s", said)
    results = rescore(records.values(), reward, protocol)
    content = report(reward.name, protocol, records.values(), results)
    print(_tally(content))
    if other is not None:
        others = rescore(records.values(), other, protocol)
        found = differences(records, results, others)
        content["compare"] = comparison(other.name, others, found)
        print(_shown(reward.name, other.name, len(records), found))
    if options.json:
        write_json(options.json, content)


def _tally(content: Mapping[str, Any]) -> str:
    head = f"{content['reward']} on {content['n']} trajectories ({content['protocol']}): mean {content['mean']:.4f}"
    if failed := sum(content[name] for name in FAILURES):
        head += f", {failed} failed (neutral)"
    return f"{head}\n{format_table(['rule', 'fired'], [[name, str(n)] for name, n in content['rules'].items()])}"


def _shown(first: str, second: str, n: int, found: Sequence[Difference]) -> str:
    lines = [f"\n{first} (first) and {second} (second) differ on {len(found)} of {n} trajectories"]
    for reason, count in Counter(difference.reason for difference in found).most_common():
        lines.append(f"{count} x {reason}")
        for each in [difference for difference in found if difference.reason == reason][:EXAMPLES]:
            totals = f"{each.first.total:g} / {each.second.total:g}"
            lines.append(f"    {Path(each.place).name}  {totals}  {each.question[:80]}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="eval.rescore", description=__doc__)
    parser.add_argument("trajectories", nargs="*", type=Path, help="runs, evaluations, JSONL files, or folders of them")
    parser.add_argument("--reward", metavar="NAME", help="the reward to give")
    parser.add_argument("--compare", metavar="NAME", help="a second reward; shows where the totals differ")
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help="whose tags the texts have (default: their folder's)",
    )
    add_plugin_option(parser)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write totals and tally to this file")
    parser.add_argument("--list", action="store_true", help="print the names of all rewards and stop")
    return parser


if __name__ == "__main__":
    sys.exit(main())
