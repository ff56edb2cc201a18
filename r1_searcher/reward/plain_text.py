"""One spelling for what a right answer may be written like, in any script: the `unicode` metrics' first step.

Only ways of *writing* an answer are made equal (code points, dashes, quotation marks, digits of other scripts,
thousands separators, `&`); words are not: accents stay, nothing is stemmed or translated, and -5 is not 5.
"""

from __future__ import annotations

import re
import unicodedata

from foundation.unspaced import spaced

_SPACES_IN_NUMBERS = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
"""No-break and thin spaces between digits are thousands separators; a plain space may as well part two numbers."""
_MARKS = {
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\u207b\u30a0\ufe58\ufe63\uff0d"), "-"),
    **dict.fromkeys(map(ord, "`\u2018\u2019\u201b\u2032\u00b4\u02b9\u02bb\u02bc\uff07"), "'"),
    ord("\u2044"): "/",
}
"""Dashes and minus signs, apostrophes and what is typed for one, the slash of a fraction."""
_RAISED = re.compile(r"(?<=\d)(?=[\u207b\u208b\u00b2\u00b3\u00b9\u2070-\u2079\u2080-\u2089\u00bc-\u00be\u2150-\u215e])")
"""Before an exponent, an index or a fraction after a number: 10² is 10^2 and not 102, 1½ is 1 1/2 and not 11/2."""
_INITIALS = re.compile(r"(?<=\b[^\W\d_])\.\s*(?=[^\W\d_]\b)")
"""Between two initials: J. K. Rowling is J.K. Rowling."""
_MINUS, _POINT = "\u2212", "\u22c5"
"""What a number keeps; a dash and a full stop are punctuation to what follows."""
_GROUPED = re.compile(r"(?<![\d.,'])\d{1,3}(?:,\d{2,3})*,\d{3}(?![\d,'])|(?<![\d.,'])\d{1,3}(?:'\d{3})+(?![\d,'])")
"""1,234,567 and 12,34,567 (India), 1'234'567 (Switzerland)."""


def plain_text(text: str) -> str:
    """The text in one spelling: words, numbers and spaces, and the ASCII punctuation that says something.

    Compatibility characters are what they stand for (full-width digits, ligatures, Roman numerals); dashes,
    quotation marks and invisible characters of all kinds are one or none; numbers are without thousands separators
    and keep minus, decimal point, exponent and fraction; an abbreviation's points and a word's apostrophes are dropped
    (U.S. is US); each character of a script without spaces is a word.
    """
    text = _one_code_point(_RAISED.sub(" ", _SPACES_IN_NUMBERS.sub("", text)))
    text = _GROUPED.sub(lambda number: re.sub("[,']", "", number[0]), text)
    text = re.sub(r"(?<![\w)])-(?=\d)", _MINUS, text)
    text = re.sub(r"(?<=\d)\.(?=\d)", _POINT, text)
    text = re.sub(r"(?<=\w)[.'](?=\w)", "", _INITIALS.sub("", text)).replace("&", " and ")
    text = "".join(" " if unicodedata.category(c).startswith("P") else c for c in text)
    return spaced(text)


def _one_code_point(text: str) -> str:
    """Case-folded, without invisible characters; one code point for each kind of dash, quotation mark and digit."""
    for _ in range(2):  # folding the case may undo the composition, and the composition give a dash
        text = unicodedata.normalize("NFKC", text.translate(_MARKS)).casefold()
    text = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return re.sub(r"\d", lambda digit: str(unicodedata.decimal(digit[0])), text)
