"""Cold start and rejection sampling: good episodes as data for supervised fine-tuning.

    python -m data_prep.good_trajectories RUN… --model BASE --min-reward 1.0 --out sft.jsonl
    python -m data_prep.good_trajectories FILE.jsonl --from-protocol r1_searcher.base --reward r1_searcher.stage2_em
        --min-reward 1.0 --recipe r1_searcher.chat.stage2 --model BASE --out sft.jsonl

Sources are folders of training runs and of evaluations (also of a teacher behind an endpoint), and JSON lines of
published transcripts (`question`, `answer`, `completion`). Without `--recipe` an episode keeps its own ids, and the
model must have the run's tokenizer. With it, the episode is played again in the recipe's protocol, within its
limits and with the model's tokenizer: what was said, searched and found, in other tags and other tokens.

One row per episode: its ids, and as targets the ranges that the policy wrote, so that fine-tuning trains what RL
would train, id by id. A prompt, a document block or a correction is never a target, and there is no EOS but those
that the policy wrote.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from random import Random

from data_prep.demonstrations.outline import outline_of
from data_prep.demonstrations.rewriting import Rewriter
from data_prep.demonstrations.thoughts import THOUGHTS
from data_prep.simulator.pairs import find_episodes
from foundation.cli import OneLineParser, log_to_stderr, natural, positive, run_command
from foundation.errors import InputError
from foundation.files import make_folder
from foundation.json_lines import read_strict, write_json_lines
from r1_searcher.episode.limits import Limits
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.sft_row import sft_row
from r1_searcher.episode.tokenization import Tokenizer
from r1_searcher.episode.trajectory import StopReason
from r1_searcher.host.model_folder import load_tokenizer
from r1_searcher.recipe.options import add_recipe_options, add_trust_option, changed_recipe
from r1_searcher.recipe.protocols import find_protocol
from r1_searcher.recipe.recipe import RECIPES, find_recipe
from r1_searcher.reward.rewards import Reward, find_reward, score
from r1_searcher.run.episode_record import EpisodeRecord, read_any_line

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The criteria of a good episode, and how many are taken."""

    min_reward: float
    per_question: int = 4
    """Different episodes of one question at most: easy questions have many."""
    episodes: int | None = None
    """Of all, drawn by chance; None takes every one."""
    shortest: bool = False
    """Take the shortest instead of drawing."""
    searches: tuple[float, float] = (0, math.inf)
    """Fewest and most searches."""

    def takes(self, record: EpisodeRecord) -> bool:
        """Whether an episode is good: answered, rewarded, with so many searches."""
        trajectory, reward = record.trajectory, record.reward.total if record.reward else -math.inf
        least, most = self.searches
        answered = trajectory.stop_reason is StopReason.ANSWERED
        return answered and reward >= self.min_reward and least <= trajectory.n_searches <= most


@dataclass(frozen=True)
class Candidate:
    """An episode with its reward, and the protocol that its text is in."""

    record: EpisodeRecord
    protocol: Protocol


def choose(records: Iterable[EpisodeRecord], choice: Choice, random: Random) -> list[EpisodeRecord]:
    """The good ones, each text once, and at most so many per question; in order of appearance.

    Of one question the best are taken, later ones first: they are the better policy's.
    """
    texts: dict[tuple[str, str], tuple[float, int, EpisodeRecord]] = {}
    for place, record in enumerate(records):
        if choice.takes(record) and record.reward is not None:
            texts[record.row.question, record.trajectory.completion] = (record.reward.total, place, record)
    ranked = sorted(texts.values(), key=lambda found: (-found[0], -found[1]))
    taken: Counter[str] = Counter()
    kept: list[tuple[int, EpisodeRecord]] = []
    for _, place, record in ranked:
        if taken[record.row.question] < choice.per_question:
            taken[record.row.question] += 1
            kept.append((place, record))
    if choice.episodes is not None and choice.episodes < len(kept):
        if choice.shortest:
            kept = sorted(kept, key=lambda found: (len(found[1].trajectory.ids), found[0]))[: choice.episodes]
        else:
            kept = random.sample(kept, choice.episodes)
    return [record for _, record in sorted(kept, key=lambda found: found[0])]


def read_rewarded(sources: Iterable[Path], reward: Reward | None, written_in: Protocol | None) -> Iterator[Candidate]:
    """Every episode, each with a reward: its own, or the one that is asked for.

    Args:
        sources: folders of runs or evaluations, and JSONL files of transcripts or of our own lines.
        reward: given instead of the episodes' own; files of transcripts need one.
        written_in: the protocol whose tags stand in the files.

    Raises:
        InputError: a source holds no episodes, or one without a reward; or `written_in` is missing.
    """
    for source in sources:
        for candidate in _read(source, written_in):
            record, protocol = candidate.record, candidate.protocol
            if reward is not None:
                result = score(reward, record.trajectory, protocol, record.judged)
                yield replace(candidate, record=replace(record, reward=result))
            elif record.reward is not None:
                yield candidate
            else:
                raise InputError(f"{source}: an episode has no reward; take a training run's folder, or give --reward")


def _read(source: Path, written_in: Protocol | None) -> Iterator[Candidate]:
    if not source.is_file():
        found = find_episodes(source)
        yield from (Candidate(record, found.protocol) for record in found.read())
    elif written_in is None:
        raise InputError(f"{source} is a file; --from-protocol must say whose tags its texts have")
    else:
        parse = partial(read_any_line, protocol=written_in, needs="completion")
        yield from (Candidate(record, written_in) for record in read_strict(source, parse))


def rewritten(candidates: Iterable[Candidate], rewriter: Rewriter, thoughts: str) -> Iterator[EpisodeRecord]:
    """The episodes in the rewriter's protocol; those that it cannot write are left out, and counted in the log."""
    left_out = 0
    for candidate in candidates:
        outline = outline_of(candidate.record.trajectory, candidate.protocol)
        episode = None if outline is None else rewriter.rewrite(THOUGHTS[thoughts](outline))
        if episode is None:
            left_out += 1
        else:
            yield replace(candidate.record, trajectory=episode, logged_metrics=None, is_published=False)
    if left_out:
        limits = rewriter.limits
        logger.info(
            "%d good episodes are left out: over %d tokens, a turn over %d, or not to be written in %s",
            *(left_out, limits.max_length, limits.turn_tokens, rewriter.protocol.name),
        )


def _run(options: argparse.Namespace) -> None:
    choice = Choice(
        options.min_reward, options.per_question, options.episodes, options.shortest, tuple(options.searches)
    )
    reward = find_reward(options.reward) if options.reward else None
    written_in = find_protocol(options.from_protocol) if options.from_protocol else None
    _check_target(options)
    if reward is not None and reward.without_judge:
        logger.warning("%s, but for episodes with a verdict beside them", reward.without_judge)
    good = [each for each in read_rewarded(options.sources, reward, written_in) if choice.takes(each.record)]
    tokenizer = load_tokenizer(options.model, trust_remote_code=options.trust_remote_code)
    chosen = choose(_episodes(good, options, tokenizer), choice, Random(options.seed))
    if not chosen:
        raise InputError(
            f"no answered episode has a reward of {choice.min_reward:g} or more"
            if not good
            else f"{len(good)} episodes are good, and none can be written in {options.recipe} within its limits"
        )
    rows = [sft_row(record.trajectory, tokenizer) for record in chosen]
    Random(options.seed).shuffle(rows)
    make_folder(options.out.parent)
    write_json_lines(options.out, (row.to_mapping() for row in rows))
    questions = len({record.row.question for record in chosen})
    ids, trained = sum(len(row.ids) for row in rows), sum(end - start for row in rows for start, end in row.targets)
    logger.info(
        "%s: %d episodes to %d questions; %d of %d ids are trained", options.out, len(rows), questions, trained, ids
    )


def _check_target(options: argparse.Namespace) -> None:
    """Refuse options about writing anew where nothing is written anew. Raises `InputError`."""
    if options.recipe is not None:
        return
    given = [limit.name for limit in fields(Limits) if getattr(options, limit.name) is not None]
    given += [name for name in ("thoughts", "prompt_file", "system_prompt_file") if getattr(options, name) is not None]
    if given:
        raise InputError(f"--{given[0].replace('_', '-')} is about episodes written anew; give --recipe, too")


def _episodes(good: Sequence[Candidate], options: argparse.Namespace, tokenizer: Tokenizer) -> Iterable[EpisodeRecord]:
    """The good episodes as they are, or in the recipe's protocol."""
    if options.recipe is None:
        return [candidate.record for candidate in good]
    recipe = changed_recipe(find_recipe(options.recipe), options)
    return rewritten(good, Rewriter(recipe.protocol, recipe.limits, tokenizer), options.thoughts or "all")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    options = _parser().parse_args(argv)
    log_to_stderr()
    return run_command("data_prep.good_trajectories", lambda: _run(options))


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="data_prep.good_trajectories", description=__doc__)
    add = parser.add_argument
    add("sources", type=Path, nargs="+", help="folders of runs or evaluations, or JSONL files of transcripts")
    add("--from-protocol", metavar="NAME", help="whose tags the files' texts have, e.g. r1_searcher.base")
    add("--model", required=True, help="model to be trained; without --recipe, one with the runs' tokenizer")
    add("--reward", metavar="NAME", help="reward to choose by, instead of the episodes' own")
    add("--min-reward", type=float, required=True, help="an episode's total reward must reach it")
    add(
        "--searches",
        type=natural,
        nargs=2,
        metavar=("MIN", "MAX"),
        default=(0, math.inf),
        help="searches of an episode",
    )
    add("--per-question", type=positive, default=4, help="different episodes of a question (default 4)")
    add("--episodes", type=positive, help="episodes in all, drawn by chance (default: every good one)")
    add("--shortest", action="store_true", help="of more than --episodes, the shortest instead of a draw")
    kept = "with --recipe: what is kept of a thought: all (default), its first sentence, or a fixed one in its place"
    add("--thoughts", choices=list(THOUGHTS), help=kept)
    add("--out", type=Path, required=True, help="JSONL for python -m r1_searcher.sft")
    add("--seed", type=int, default=0, help="seed of the draw and the order (default 0)")
    add_recipe_options(parser, RECIPES, required=False)
    add_trust_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
