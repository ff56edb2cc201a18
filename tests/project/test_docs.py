"""The documentation agrees with itself: links, measured figures, and the README's length."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from foundation.cli import ABORTED, BAD_INPUT, DONE, FAILED, GUARDED, INTERRUPTED, NOBODY_READS

REPO = Path(__file__).resolve().parents[2]
README = (REPO / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*REPO.glob("*.md"), *REPO.glob("docs/**/*.md")])
MODELS = ("base", "stage1", "stage2")
QUICKSTART = (REPO / "docs/results/quickstart.md").read_text(encoding="utf-8")


def table_rows(text: str) -> list[list[str]]:
    """The cells of every table line of a Markdown text, without the lines of dashes."""
    lines = [line.strip("|") for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip().strip("*") for cell in line.split("|")] for line in lines]


def masked_rows() -> dict[tuple[str, str, str], list[str]]:
    """Model, decoding and seed (or `mean`) to the newest figures with the document mask."""
    (section,) = re.findall(r"<!-- begin seeds -->(.*?)<!-- end seeds -->", QUICKSTART, flags=re.DOTALL)
    masked = section.split("### Documents in the loss")[0]
    return {(row[0], row[1], row[2]): row[3:] for row in table_rows(masked)[1:]}


def test_the_readme_fits_three_screens():
    assert len(README.splitlines()) <= 120
    text = [line for line in README.splitlines() if not line.startswith("|") and "](" not in line]
    assert [line for line in text if len(line) > 120] == []


def test_the_readmes_table_is_the_seed_that_it_names():
    (seed,) = re.findall(r"The table is of seed (\d+)", README)
    rows = [row for row in table_rows(README) if row[0] in MODELS]
    assert len(rows) == 6
    for model, decoding, *figures in rows:
        assert figures == masked_rows()[model, decoding, seed], (model, decoding)


@pytest.mark.parametrize(("decoding", "line"), [("greedy", "F1, greedy"), ("sampled", "sampled at temperature 1")])
def test_the_summary_of_results_repeats_the_means(decoding, line):
    summary = (REPO / "docs/results.md").read_text(encoding="utf-8")
    stated = next(row[2] for row in table_rows(summary) if line in row[0])
    rows = masked_rows()
    seeds = {seed for _, _, seed in rows}
    (over,) = seeds if len(seeds) == 1 else {"mean"}
    assert re.findall(r"\d\.\d\d", stated)[:3] == [rows[name, decoding, over][3] for name in MODELS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(((?!https?:)[^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).is_file()] == []


def test_the_exit_statuses_are_the_commands():
    page = (REPO / "docs/architecture.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"## Exit statuses\n(.*?)\n## ", page, flags=re.DOTALL)
    *fixed, signals = table_rows(section)[1:]
    assert [row[0] for row in fixed] == [str(each) for each in (DONE, FAILED, BAD_INPUT, ABORTED, GUARDED)]
    assert {INTERRUPTED, NOBODY_READS} == {int(each) for each in re.findall(r"\b1\d\d\b", signals[1])}


def test_the_glossary_fits_on_a_page():
    page = (REPO / "docs/architecture.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"## Glossary\n(.*?)\n## ", page, flags=re.DOTALL)
    terms = [row[0] for row in table_rows(section)[1:]]
    assert 10 <= len(terms) <= 30 and len(set(terms)) == len(terms)
