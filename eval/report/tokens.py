"""The bounds of a span's tokens in its text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from eval.report.runs import ReportedRun, RunKind
from foundation.errors import InputError

_FILE = "tokenizer.json"


class TokenTexts:
    """Cuts texts that were decoded from ids back into their tokens; it never guesses.

    A token is decoded on its own first, which is right for most tokenizers and can be remembered; where the pieces
    do not join to the text (a character of several tokens, a dropped space), the span is decoded as a stream.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._alone: dict[int, str] = {}

    @classmethod
    def load(cls, folder: Path) -> TokenTexts:
        """The tokenizer of a model folder. Raises `InputError` where there is none."""
        file = folder / _FILE
        if not file.is_file():
            raise InputError(f"no {_FILE} in {folder}; give the folder of a Hugging Face model with a fast tokenizer")
        try:
            return cls(Tokenizer.from_file(str(file)))
        except Exception as error:  # the library raises the bare class
            raise InputError(f"{file} cannot be read as a tokenizer: {error}") from error

    def lengths(self, ids: Sequence[int], text: str) -> list[int] | None:
        """Length of each token's text, in UTF-16 units as a browser counts them.

        `text` may lack a final EOS, as recorded spans do; that token has length 0. None where the pieces do not
        make the text: the ids are of another tokenizer.
        """
        for pieces in (map(self._piece, ids), self._stream(ids)):
            found = list(pieces)
            for kept in (found, found[:-1]):
                if "".join(kept) == text:
                    return [_utf16(piece) for piece in kept] + [0] * (len(found) - len(kept))
        return None

    def _piece(self, token: int) -> str:
        if token not in self._alone:
            self._alone[token] = self._tokenizer.decode([token], skip_special_tokens=False)
        return self._alone[token]

    def _stream(self, ids: Sequence[int]) -> list[str]:
        """The text that each token adds; the last of the tokens of one character adds all of it."""
        stream = DecodeStream(skip_special_tokens=False)
        return [stream.step(self._tokenizer, token) or "" for token in ids]


def tokens_of(runs: Sequence[ReportedRun]) -> TokenTexts | None:
    """The tokenizer of the first training that has left its model; None where there is none."""
    for run in runs:
        if run.kind is RunKind.TRAINING and (run.model_folder / _FILE).is_file():
            return TokenTexts.load(run.model_folder)
    return None


def _utf16(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
