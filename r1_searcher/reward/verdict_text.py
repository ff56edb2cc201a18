"""A judge's words -> its verdict: True or False where nothing else can be meant, else None."""

from __future__ import annotations

import re
from collections.abc import Iterator

from foundation.chat.replies import spoken

_WORDS = {"true": True, "yes": True, "correct": True, "right": True}
_WORDS |= {"false": False, "no": False, "incorrect": False, "wrong": False}
_WORD = rf"(?P<word>{'|'.join(_WORDS)})"
_MARKS = r"[\W_]*"
"""Markdown, quotation marks, brackets, spaces and line ends."""
_NAMES = r"verdicts?|judg(?:e?ment)?|decisions?|assessment|evaluation|is_correct|correctness"
"""What a judge calls its verdict; `answer` and the like may as well be the answer that is judged."""

_TAG = re.compile(r"</?[A-Za-z_]+>|\\boxed|\\text(?:bf)?")

_NOT_ALONE = r"(?!\s*(?:/|\||or\b|and\b))"
"""After a word: `True or False`, `True/False` name both."""
_REASON = rf"(?=[*_`\"')\]]*(?:$|[.,:;!。，：；！\n]|\s*\(|\s+[-–—]|[–—]|{_MARKS}\s(?:because|since|as|given|due)\b))"
"""After a verdict: the end, a punctuation mark, a dash, or the word that begins a reason."""

_WHOLE_LINE = re.compile(rf"{_MARKS}(?:[\w ]{{1,20}}:{_MARKS})?{_WORD}{_MARKS}", re.IGNORECASE)
_LEADING = re.compile(rf"{_MARKS}{_WORD}\b{_NOT_ALONE}{_REASON}", re.IGNORECASE | re.MULTILINE)
_NAMED = re.compile(rf"\b(?:{_NAMES})\b(?:\s+is\b)?{_MARKS}{_WORD}\b{_NOT_ALONE}", re.IGNORECASE)
_IN_JSON = re.compile(
    rf"[\"'](?:\w*correct\w*|{_NAMES}|answer|result|label|output|response|score)[\"']\s*:\s*[\"']?{_WORD}\b",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    rf"(?:^|[.!?:]\s+)(?:(?:so|thus|hence|therefore|finally|overall|in conclusion)\b,?\s*)?"
    rf"(?:(?:(?:my|the)\s+)?(?:final\s+)?(?:answer|conclusion|result|{_NAMES})\s*(?:is\b|:){_MARKS})?{_WORD}{_MARKS}$",
    re.IGNORECASE,
)


def parse_verdict(reply: str) -> bool | None:
    """The verdict of a reply; None where it gives none, or one and its opposite.

    A verdict stands at the beginning with or without its reason after it (`True. Both name …`), in the last line or
    sentence, after its name anywhere (`Verdict: yes`, `{"verdict": true}`), or alone in a first or last line. What a
    model thought before it spoke is not looked at; a thought that does not end is no verdict.
    """
    said = spoken(reply)
    if said is None:
        return None
    verdicts = {_WORDS[word.lower()] for word in _stated(_TAG.sub(" ", said).strip())}
    return verdicts.pop() if len(verdicts) == 1 else None


def _stated(text: str) -> Iterator[str]:
    """Every word that states a verdict."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return
    whole = (_WHOLE_LINE.fullmatch(line) for line in (lines[0], lines[-1]))
    single = (_LEADING.match(lines[0]), _CLOSING.search(lines[-1]))
    for found in (*whole, *single, *_NAMED.finditer(text), *_IN_JSON.finditer(text)):
        if found:
            yield found["word"]
