"""A file of rows for supervised fine-tuning: its form, and how OpenRLHF is told to read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foundation.cli import split_flags
from foundation.errors import InputError
from foundation.files import parse_json
from foundation.json_lines import numbered_lines, read_strict
from foundation.text_lines import is_one_piece
from r1_searcher.episode.sft_row import SFTRow
from r1_searcher.host.model_folder import load_tokenizer

EPISODE = frozenset({"ids", "targets", "text"})
"""Keys of a row that is an episode: `r1_searcher.episode.sft_row`."""
SUFFIXES = (".jsonl", ".json")
TEXT_FORMS: dict[frozenset[str], tuple[str, ...]] = {
    frozenset({"messages"}): ("--data.input_key", "messages", "--data.apply_chat_template"),
    # The template is empty, because the input is the whole context as the model will see it.
    frozenset({"input", "output"}): (
        *("--data.input_key", "input", "--data.output_key", "output"),
        *("--data.input_template", ""),
    ),
}
"""Keys of a row of text, and how OpenRLHF is told to read it."""
ABOUT_TEXT = frozenset(
    {
        *("--data.input_key", "--data.output_key", "--data.input_template", "--data.apply_chat_template"),
        *("--data.tokenizer_chat_template", "--data.multiturn", "--model.pretrain_mode_enable"),
    }
)
"""OpenRLHF's flags about texts, which mean nothing for rows of episodes."""


@dataclass(frozen=True)
class SFTFile:
    """A file of rows, as fine-tuning has to know it."""

    count: int
    flags: tuple[str, ...]
    """OpenRLHF's flags that fit them; the user's win."""
    lengths: tuple[int, ...] | None = None
    """Ids of each row, where the rows are episodes."""

    def check_flags(self, host_flags: Sequence[str]) -> None:
        """Refuse flags about text where there is none. Raises `InputError`."""
        refused = [flag for flag, _ in split_flags(host_flags) if flag in ABOUT_TEXT]
        if self.lengths is not None and refused:
            raise InputError(f"the rows are episodes, trained id by id; leave out {', '.join(refused)}")

    def fitting(self, max_length: int) -> int:
        """The number of rows that OpenRLHF will train on; texts are cut, episodes are left out."""
        if self.lengths is None:
            return self.count
        return sum(length <= max_length for length in self.lengths)


def read_rows(data: Path, model: str, *, trust_remote_code: bool = False) -> SFTFile:
    """The rows as they are; episodes are read whole and checked against the model's tokenizer.

    Raises:
        InputError: the file cannot be read, its rows have no known form, or the tokenizer is another.
    """
    try:
        if data.suffix not in SUFFIXES or is_one_piece(data):
            raise InputError(f"{data}: OpenRLHF reads plain UTF-8 files that end in {' or '.join(SUFFIXES)} only")
        lines = [line for _, line in numbered_lines(data)]
        first = parse_json(lines[0]) if lines else None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read rows from {data}: {error}") from error
    keys = frozenset(first) if isinstance(first, dict) else frozenset()
    if keys >= EPISODE:
        lengths = _episode_lengths(data, model, trust_remote_code)
        return SFTFile(len(lines), ("--data.max_len", str(max(lengths))), lengths)
    for wanted, flags in TEXT_FORMS.items():
        if wanted <= keys:
            return SFTFile(len(lines), flags)
    raise InputError(
        f"{data}: the first row has the keys {sorted(keys)}; expected 'messages', 'input' and 'output', "
        "or 'ids', 'targets' and 'text'"
    )


def _episode_lengths(data: Path, model: str, trust_remote_code: bool) -> tuple[int, ...]:
    tokenizer = load_tokenizer(model, trust_remote_code=trust_remote_code)
    lengths = []
    for number, row in enumerate(read_strict(data, SFTRow.from_mapping), start=1):
        decoded = tokenizer.decode(row.ids)
        if decoded != row.text:
            raise InputError(
                f"{data}: the tokenizer of {model} is not the one of the rows: it reads the ids of row {number} as "
                f"{decoded[:60]!r}, which were {row.text[:60]!r}; take a model with the tokenizer of the run"
            )
        lengths.append(len(row.ids))
    return tuple(lengths)
