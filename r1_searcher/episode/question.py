"""One dataset row, and how rows are read from and written to JSONL.

Files of other systems are read by `data_prep.questions`; a reader of questions takes what that writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from foundation.errors import InputError
from foundation.files import parse_json, text_sha256
from foundation.json_lines import read_strict


@dataclass(frozen=True)
class QARow:
    """A question with every answer that counts as right."""

    id: str
    question: str
    answers: tuple[str, ...]
    """Gold answers; at least one, none empty. Scores take the best over all of them."""
    source: str = ""
    """Dataset that the row comes from, e.g. `hotpotqa`."""
    hops: int | None = None
    """Number of facts that must be combined, where the dataset says."""
    titles: tuple[str, ...] = ()
    """Titles of the pages that the answer rests on, where the dataset says."""

    def to_json(self) -> str:
        """One line of JSON; `from_json` reads it back."""
        row: dict[str, object] = {"id": self.id, "question": self.question, "answers": list(self.answers)}
        if self.source:
            row["source"] = self.source
        if self.hops is not None:
            row["hops"] = self.hops
        if self.titles:
            row["titles"] = list(self.titles)
        return json.dumps(row, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> QARow:
        """Read one line. Raises `ValueError` saying what is wrong with it."""
        try:
            row = parse_json(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON ({error.msg} at column {error.colno}); expected one object per line") from error
        return cls.from_mapping(row)

    @classmethod
    def from_mapping(cls, row: object) -> QARow:
        """Read a row that has `question` and `answers` (a list) or `answer` (one answer or a list).

        An answer may be a number, or true and false for yes and no; see `answer_text`.

        Raises:
            ValueError: saying what is wrong with the row: something is missing, of a wrong type, or holds half of a
                surrogate pair, which no file and no tokenizer takes.
        """
        if not isinstance(row, Mapping):
            raise ValueError(f"a row must be a JSON object, found {type(row).__name__}")
        question = row.get("question")
        if not isinstance(question, str) or not question.strip():
            raise ValueError(f"'question' must be a non-empty string, found {question!r}")
        hops = row.get("hops")
        if hops is not None and not str(hops).isdecimal():
            raise ValueError(f"'hops' must be a whole number, found {hops!r}")
        found = cls(
            id=question if row.get("id") is None else str(row["id"]),
            question=question,
            answers=_gold_answers(row),
            source=str(row.get("source", "")),
            hops=None if hops is None else int(str(hops)),
            titles=_titles(row.get("titles") or ()),
        )
        named = {"id": (found.id,), "question": (question,), "source": (found.source,)}
        for name, texts in {**named, "an answer": found.answers, "a title": found.titles}.items():
            for text in texts:
                check_text(name, text)
        return found


def answer_text(value: object) -> str:
    """An answer as text: a string as it is, a number in digits, true and false as yes and no.

    Yes and no, because that is how policies are asked to answer and how R1-Searcher's metric reads True and False. A
    whole float is an integer: tables turn 1984 into 1984.0 where a neighbour is missing.

    Raises:
        ValueError: anything else, NaN included.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    raise ValueError(f"every answer must be a non-empty string, found {value!r:.80}")


def check_text(name: str, text: str) -> None:
    """Raise `ValueError` for half of a surrogate pair, legal in JSON and in no text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        wrong = text[error.start : error.start + 1]
        raise ValueError(
            f"{name} holds half of a surrogate pair ({wrong!r}), which is no text: {text!r:.80}"
        ) from error


def _gold_answers(row: Mapping[str, object]) -> tuple[str, ...]:
    found = row.get("answers", row.get("answer"))
    answers = found if isinstance(found, list) else [] if found is None or isinstance(found, Mapping) else [found]
    if not answers:
        raise ValueError(f"'answers' must be a non-empty list of strings (or 'answer' a string), found {found!r:.80}")
    texts = tuple(map(answer_text, answers))
    if not all(text.strip() for text in texts):
        raise ValueError(f"every answer must be a non-empty string, found {answers!r:.80}")
    return texts


def _titles(found: object) -> tuple[str, ...]:
    if not isinstance(found, list | tuple) or not all(isinstance(title, str) for title in found):
        raise ValueError(f"'titles' must be a list of strings, found {found!r}")
    return tuple(found)


def iter_rows(path: str | Path) -> Iterator[QARow]:
    """Yield the rows of a JSONL file, blank lines skipped.

    Raises:
        InputError: the file is missing, or a line cannot be read (with its line number).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"dataset not found: {path} (expected a JSONL file of questions)")
    return read_strict(path, QARow.from_mapping)


def check_ids(rows: Iterable[QARow], where: str) -> None:
    """Raises `InputError` where two rows have the same id; `where` says what they were read from."""
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise InputError(f"{where}: two questions have the id {row.id!r}; each id must be unique")
        seen.add(row.id)


def read_rows(path: str | Path) -> list[QARow]:
    """All rows of a JSONL file.

    Raises:
        InputError: as `iter_rows`, or the file holds no row.
    """
    rows = list(iter_rows(path))
    if not rows:
        raise InputError(f"dataset is empty: {path} (expected at least one JSON line with a question)")
    return rows


def rows_sha256(rows: Iterable[QARow]) -> str:
    """What a set of questions, in its order, is known by."""
    return text_sha256("\n".join(row.to_json() for row in rows))
