"""Tables on the console."""

from __future__ import annotations

from foundation.text_table import format_table

ROWS = [["long", "1"], ["x", "22"]]


def test_columns_are_aligned_with_and_without_a_header():
    assert format_table(["a", "bb"], ROWS).splitlines() == ["a     bb", "----  --", "long   1", "x     22"]
    assert format_table((), ROWS).splitlines() == ["long   1", "x     22"]
    assert format_table(["a", "bb"], []).splitlines() == ["a  bb", "-  --"] and format_table((), []) == ""
