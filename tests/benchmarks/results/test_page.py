"""Sections of pages, and the numbers in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.results.numbers import short
from benchmarks.results.page import between_marks, replace_section


def test_a_section_is_replaced_and_the_others_are_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    replace_section(page, "one", "first\n")
    replace_section(page, "two", "second")
    replace_section(page, "one", r"again \1")
    assert page.read_text() == (
        "# Results\n\n<!-- begin one -->\nagain \\1\n<!-- end one -->\n\n<!-- begin two -->\nsecond\n<!-- end two -->\n"
    )


def test_a_page_without_the_marks_is_no_page_to_draw_on() -> None:
    assert between_marks("a <b> x <e> z", "<b>", "<e>", "y") == "a <b>\ny\n<e> z"
    with pytest.raises(ValueError):
        between_marks("a page", "<b>", "<e>", "y")


@pytest.mark.parametrize(
    ("value", "kept"), [(0.123456, 0.1235), (123456.7, 123500.0), (123456, 123456), (None, None), (0.0, 0.0)]
)
def test_a_number_is_kept_with_four_digits(value: float | None, kept: float | None) -> None:
    assert short(value) == kept and type(short(value)) is type(kept)
