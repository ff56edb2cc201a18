"""The short prompt of small simulators, and documents written as they are read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.simulated.prompts import (
    MODES,
    SimulatedSearch,
    parse_documents,
    simulator_messages,
    simulator_prompt,
    write_documents,
)

QUESTION = "What is the home of the mayor of the town Bim Tal ?"


def short(query, useful=True):
    return simulator_prompt(SimulatedSearch(query, QUESTION, ("Xo Ru", "Xo"), useful), "short")


@pytest.mark.parametrize(
    ("query", "rest"),
    [
        ("Bim Tal mayor", "What is the home of the of the town ?"),
        ("Mek Dol home", "What is the of the mayor of the town Bim Tal ?"),
        ("bim TAL Mayor", "What is the home of the of the town ?"),
        ("nothing in common", QUESTION),
    ],
)
def test_the_short_prompt_tells_what_the_query_leaves_open(query, rest):
    assert short(query) == f"useful {query} . Xo Ru or Xo . {rest}"
    assert short(query, useful=False) == f"noisy {query} . Xo Ru or Xo . {rest}"


@pytest.mark.parametrize("mode", MODES)
def test_what_is_trained_is_what_is_asked(mode):
    search = SimulatedSearch("q", "Q?", ("a",), useful=True)
    system, user = simulator_messages(search, mode)
    assert system == {"role": "system", "content": ""}
    assert user == {"role": "user", "content": simulator_prompt(search, mode)}


@given(st.lists(st.from_regex(r"[a-z]{1,9}( [A-Za-z0-9:.]{1,9}){0,5}", fullmatch=True), min_size=1, max_size=7))
def test_documents_are_read_back_as_they_were_written(documents):
    assert parse_documents(write_documents(documents)) == documents[:5]


def test_a_document_is_written_on_one_line():
    assert write_documents(["a\n b", "c"]) == "Doc 1: a b\nDoc 2: c"
