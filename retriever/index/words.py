"""Text -> words: the one tokenizer of the lexical indexes (BM25, hashing encoder)."""

from __future__ import annotations

import re
import unicodedata

WORDS_VERSION = "words-1"
"""Saved with an index. Change it whenever `words` would cut any text differently."""

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Cut text into lower-case words without accents, in order, repetitions kept.

    A word is a run of letters and digits of any script. Case is folded and combining accents are dropped, so
    `Alû` and `alu` are one word. There is no stop-word list and no stemming: `the` and `films` stay as they
    are, and what is common is left to the index's own weighting. Scripts written without spaces give long
    words.
    """
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()
    else:
        text = text.lower()
    return _WORD.findall(text)
