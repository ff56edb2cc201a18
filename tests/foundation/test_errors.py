"""What a user is told who gives a name that is not there."""

from __future__ import annotations

import pytest

from foundation.errors import InputError, found_in

TABLE = {"red": 1, "blue": 2}


def test_a_name_is_looked_up():
    assert found_in(TABLE, "colour", "blue") == 2


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(InputError, match="^unknown colour 'green'; known: red, blue$"):
        found_in(TABLE, "colour", "green")
