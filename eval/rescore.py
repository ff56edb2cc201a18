"""Score finished trajectories with any reward: `python -m eval.rescore TRAJECTORIES --reward NAME --json OUT`.

Reads our own rows and the published ones, one file, several, or folders of them. `--list` names the rewards;
`--compare NAME` shows where a second reward gives another total, and why.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.results.folder import write_json
from eval.results.table import format_table
from eval.results.transcripts import read_trajectories, trajectory_files
from foundation.cli import OneLineParser, check_output, run_command
from foundation.errors import InputError
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.trajectory import StopReason, Trajectory
from r1_searcher.recipe.protocols import PROTOCOLS, find_protocol
from r1_searcher.recipe.recipe import RECIPES
from r1_searcher.reward.rewards import REWARDS, Reward, RewardResult, find_reward, score

DECIMALS = 6
"""Of totals in the JSON file."""
EXAMPLES = 3
"""Rows that are shown of each reason for a difference."""


@dataclass(frozen=True)
class Rescored:
    """One trajectory under one reward."""

    place: str
    """`file:n`, its n-th trajectory."""
    question: str
    failed: bool
    """Whether its search failed; such an episode has the neutral reward."""
    result: RewardResult

    @property
    def total(self) -> float:
        """The reward, rounded for comparison with published files."""
        return round(self.result.total, DECIMALS)

    @property
    def broken(self) -> frozenset[str]:
        """Names of the rules that fired."""
        return frozenset(name for name, kept in self.result.rules.items() if not kept)


@dataclass(frozen=True)
class Difference:
    """A row on which two rewards disagree."""

    index: int
    first: Rescored
    second: Rescored

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


def default_protocol(reward: str) -> Protocol:
    """The protocol of the first recipe with this reward, else the first one of the reward's family.

    A composed reward (`part=weight,...`) has R1-Searcher's rules, and so its tags.

    Raises:
        InputError: there is neither; `--protocol` must say.
    """
    for recipe in RECIPES.values():
        if recipe.reward == reward:
            return recipe.protocol_spec
    family = "r1_searcher" if "=" in reward else reward.split(".")[0]
    for name, protocol in PROTOCOLS.items():
        if name.split(".")[0] == family:
            return protocol
    raise InputError(f"no protocol of the family {family!r}; pass --protocol, one of: {', '.join(PROTOCOLS)}")


def rescore(files: Sequence[Path], reward: Reward, protocol: Protocol) -> list[Rescored]:
    """Every trajectory under the reward, in order of files and lines."""
    return [
        Rescored(
            place=place,
            question=trajectory.row.question,
            failed=trajectory.stop_reason is StopReason.RETRIEVER_ERROR,
            result=score(reward, trajectory, protocol),
        )
        for place, trajectory in _placed(files, protocol)
    ]


def _placed(files: Sequence[Path], protocol: Protocol) -> Iterator[tuple[str, Trajectory]]:
    for file in files:
        for number, trajectory in enumerate(read_trajectories(file, protocol), start=1):
            yield f"{file.name}:{number}", trajectory


def rules_tally(rows: Sequence[Rescored]) -> dict[str, int]:
    """Rule -> trajectories that broke it, rules that never fired included."""
    fired = Counter(name for row in rows for name in row.broken)
    return {name: fired[name] for name in rows[0].result.rules}


def differences(first: Sequence[Rescored], second: Sequence[Rescored]) -> list[Difference]:
    """The rows whose totals differ."""
    pairs = enumerate(zip(first, second, strict=True))
    return [Difference(index, one, other) for index, (one, other) in pairs if one.total != other.total]


def report(reward: str, protocol: Protocol, rows: Sequence[Rescored]) -> dict[str, Any]:
    """What `--json` writes: totals in order, and how often each rule fired."""
    return {
        "reward": reward,
        "protocol": protocol.name,
        "n": len(rows),
        "scores": [row.total for row in rows],
        "mean": round(sum(row.total for row in rows) / len(rows), DECIMALS),
        "retriever_errors": sum(row.failed for row in rows),
        "rules": rules_tally(rows),
    }


def comparison(reward: str, rows: Sequence[Rescored], found: Sequence[Difference]) -> dict[str, Any]:
    """The part of `--json` about the second reward."""
    return {
        "reward": reward,
        "scores": [row.total for row in rows],
        "differing": [difference.index for difference in found],
        "reasons": dict(Counter(difference.reason for difference in found).most_common()),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    options = _parser().parse_args(argv)
    return run_command("eval.rescore", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if options.list:
        width = max(map(len, REWARDS))
        print("\n".join(f"{name.ljust(width)}  {reward.source}" for name, reward in REWARDS.items()))
        return
    if not options.trajectories or not options.reward:
        raise InputError("expected trajectories and --reward NAME (--list names the rewards)")
    check_output(options.json)
    reward = find_reward(options.reward)
    other = find_reward(options.compare) if options.compare else None
    protocol = find_protocol(options.protocol) if options.protocol else default_protocol(reward.name)
    files = trajectory_files(options.trajectories)
    rows = rescore(files, reward, protocol)
    if not rows:
        raise InputError(f"no trajectories in {', '.join(map(str, files))}")
    content = report(reward.name, protocol, rows)
    print(_tally(content))
    if other is not None:
        others = rescore(files, other, protocol)
        found = differences(rows, others)
        content["compare"] = comparison(other.name, others, found)
        print(_shown(reward.name, other.name, len(rows), found))
    if options.json:
        write_json(options.json, content)


def _tally(content: Mapping[str, Any]) -> str:
    head = f"{content['reward']} on {content['n']} trajectories ({content['protocol']}): mean {content['mean']:.4f}"
    if content["retriever_errors"]:
        head += f", {content['retriever_errors']} failed searches (neutral)"
    return f"{head}\n{format_table(['rule', 'fired'], [[name, str(n)] for name, n in content['rules'].items()])}"


def _shown(first: str, second: str, n: int, found: Sequence[Difference]) -> str:
    lines = [f"\n{first} (first) and {second} (second) differ on {len(found)} of {n} trajectories"]
    for reason, count in Counter(difference.reason for difference in found).most_common():
        lines.append(f"{count} x {reason}")
        for each in [difference for difference in found if difference.reason == reason][:EXAMPLES]:
            totals = f"{each.first.total:g} / {each.second.total:g}"
            lines.append(f"    {each.first.place}  {totals}  {each.first.question[:80]}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="eval.rescore", description=__doc__)
    parser.add_argument("trajectories", nargs="*", type=Path, help="JSONL files, or folders of them")
    parser.add_argument("--reward", metavar="NAME", help="the reward to give")
    parser.add_argument("--compare", metavar="NAME", help="a second reward; shows where the totals differ")
    parser.add_argument("--protocol", metavar="NAME", help="whose tags the texts have (default: the reward's own)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write totals and tally to this file")
    parser.add_argument("--list", action="store_true", help="name every reward and leave")
    return parser


if __name__ == "__main__":
    sys.exit(main())
