"""What the rollout benchmark plays: episodes with the turns, action lengths and document lengths of published runs.

`lengths.json` holds, for each of 625 trajectories that R1-Searcher published, the characters of every action and of
every document block (`python -m benchmarks.rollout.workload TRAJECTORIES` makes it). The benchmark's vocabulary
has one token per word, so a length in tokens is a number of words.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from data_prep.tiny.names import name_words
from foundation.cli import OneLineParser, run_command
from foundation.errors import InputError
from foundation.json_lines import read_strict
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import SpanKind
from r1_searcher.episode.transcript_import import import_transcript
from r1_searcher.recipe.protocols import R1_SEARCHER_BASE
from retriever.passage import Hit, Hits, Passage

LENGTHS = Path(__file__).with_name("lengths.json")
CHARACTERS_PER_TOKEN = 4.0
"""Of English text under the vocabularies of Qwen2.5 and Llama 3, roughly; it scales all lengths alike."""
PROMPT_TOKENS = 300
TOP_K = 3


@dataclass(frozen=True)
class ScriptedTurn:
    """One action and, where it searches, what comes back."""

    tokens: int
    """New tokens of the action."""
    document_tokens: int | None
    """Tokens of the passages; None ends the episode."""


@dataclass(frozen=True)
class EpisodeScript:
    """One episode."""

    row: QARow
    turns: tuple[ScriptedTurn, ...]
    hits: tuple[Hits, ...]
    """The passages that each search finds."""


def draw_scripts(count: int, *, scale: float, seed: int = 0) -> list[EpisodeScript]:
    """`count` episodes drawn from the published ones, every length multiplied by `scale`."""
    random = Random(f"workload {seed}")
    words = [word for position in name_words() for word in position]
    published = json.loads(LENGTHS.read_text(encoding="utf-8"))
    scripts = []
    for number in range(count):
        lengths = random.choice(published)
        turns, hits = [], []
        for action, documents in lengths:
            shown = None if documents is None else _tokens(documents, scale)
            turns.append(ScriptedTurn(_tokens(action, scale), shown))
            if shown is not None:
                hits.append(_hits(shown, words, random))
        question = " ".join(random.choices(words, k=_tokens(PROMPT_TOKENS * CHARACTERS_PER_TOKEN, scale)))
        row = QARow(f"episode {number}", question, ("nothing",))
        scripts.append(EpisodeScript(row, tuple(turns), tuple(hits)))
    return scripts


def _tokens(characters: float, scale: float) -> int:
    return max(4, round(scale * characters / CHARACTERS_PER_TOKEN))


def _hits(tokens: int, words: Sequence[str], random: Random) -> Hits:
    """Passages that share so many words."""
    each = max(1, tokens // TOP_K)
    texts = [" ".join(random.choices(words, k=each)) for _ in range(TOP_K)]
    return tuple(Hit(Passage(f"{hash(text)}", "", text), 1.0) for text in texts)


def measure_lengths(trajectories: Path) -> list[list[tuple[int, int | None]]]:
    """(characters of the action, characters of the documents or None) of each turn of each published trajectory."""
    episodes = []
    for file in sorted(trajectories.glob("*.jsonl")):
        for completion in read_strict(file, lambda row: str(row["completion"])):
            spans = import_transcript(completion, QARow("", "?", ("-",)), R1_SEARCHER_BASE).spans
            turns: list[tuple[int, int | None]] = []
            for place, span in enumerate(spans):
                if span.kind is SpanKind.ACTION:
                    after = spans[place + 1] if place + 1 < len(spans) else None
                    turns.append((len(span.text), None if after is None else len(after.text)))
            episodes.append(turns)
    return episodes


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the lengths of the published trajectories anew."""
    parser = OneLineParser(prog="benchmarks.rollout.workload", description=__doc__)
    parser.add_argument("trajectories", type=Path, help="folder of the published trajectories")
    folder: Path = parser.parse_args(argv).trajectories
    return run_command("benchmarks.rollout.workload", lambda: _run(folder))


def _run(folder: Path) -> None:
    lengths = measure_lengths(folder)
    if not lengths:
        raise InputError(f"no trajectories (*.jsonl) in {folder}")
    LENGTHS.write_text(json.dumps(lengths, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
