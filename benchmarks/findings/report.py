"""`docs/findings.md` from the stored rows: a table on top, then a section per finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from benchmarks.findings import real_model
from benchmarks.findings.arms import Arm
from benchmarks.findings.catalogue import FINDINGS, SEEDS, Contrast, PublishedFinding, arms_of
from benchmarks.findings.costs import cost_of
from benchmarks.findings.measures import where
from benchmarks.findings.picture import draw
from benchmarks.findings.rows import Row, Rows
from benchmarks.findings.runner import missing_of
from benchmarks.findings.verdict import PLANNED, Paired, Standing, corrected
from benchmarks.results.page import markdown_table
from eval.phases import duration_text
from eval.results.intervals import CONFIDENCE
from foundation.errors import InputError
from foundation.files import write_whole

PAGE = Path(__file__).parents[2] / "docs" / "findings.md"
PARAGRAPHS = Path(__file__).parent / "paragraphs"
"""Why a finding came out as it did, from its trajectories: `NAME.md`, or `NAME_real_model.md`; absent where nobody has
looked."""
LIMITS = "_limits"
"""What holds for all of them."""

CORES = 2
"""Of the machine that the time of what is missing is told for."""

RowsByArm = Mapping[str, Mapping[int, Row]]


def write_page(stored: Rows, page: Path = PAGE) -> None:
    """Write the page and a picture per finding, into a folder of the page's name beside it.

    Raises:
        InputError: no finding has a seed of both sides of its primary comparison.
    """
    arms = arms_of(list(FINDINGS.values()))
    rows = {arm.name: stored.of(arm) for arm in arms}
    others = sum(row["settings"] != arm.digest for arm in arms for row in stored.all_of(arm))
    found = {name: Paired.of(finding.primary, rows) for name, finding in FINDINGS.items()}
    shown = [FINDINGS[name] for name, paired in found.items() if paired is not None]
    if not shown:
        raise InputError("there is no result to report; python -m benchmarks.findings run NAME makes some")
    pictures = page.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    for finding in shown:
        draw(finding, rows, pictures / f"{finding.name}.png")
    on_real_model = real_model.read(stored.folder)
    sections = []
    for finding in shown:
        sections.append(section(finding, rows, f"{pictures.name}/{finding.name}.png"))
        sections.append(real_model.section(finding, on_real_model, _paragraph(f"{finding.name}_real_model")))
    top = [introduction(rows, others), table(found, rows), remaining(found), _paragraph(LIMITS)]
    write_whole(page, "\n".join(filter(None, [*top, _NOT_YET, not_yet(found, stored), *sections])))


def introduction(rows: RowsByArm, others: int) -> str:
    """What the page is, with the seeds and commits of its rows; `others` are stored rows of former settings."""
    every = [row for seeds in rows.values() for row in seeds.values()]
    seeds = ", ".join(map(str, sorted({row["seed"] for row in every})))
    commits = ", ".join(sorted({row["commit"] for row in every if row["commit"]}))
    left_out = f" {others} stored runs of former settings are left out." if others else ""
    return _INTRODUCTION.format(
        runs=len(every), seeds=seeds, commits=commits or "unknown", planned=PLANNED, left_out=left_out
    )


def remaining(found: Mapping[str, Paired | None]) -> str:
    """What is left of the primary comparisons when they are corrected for their number."""
    p_values = corrected_p_values(found)
    left = [name.replace("_", " ") for name, p_value in p_values.items() if p_value < 1 - CONFIDENCE]
    return (
        f"Verdicts go by the intervals, each for itself. Corrected for {len(p_values)} primary comparisons (Holm), "
        f"{' and '.join(left) or 'none'} remain{'s' if len(left) == 1 else ''} below {1 - CONFIDENCE:.2f}.\n"
    )


def table(found: Mapping[str, Paired | None], rows: RowsByArm) -> str:
    """A line per finding that has a result: the claim, what was found here, and the verdict."""
    heads = ("finding", "published", "here", "95 % interval", "p, corrected", "verdict")
    p_values = corrected_p_values(found)
    lines = []
    for name, paired in found.items():
        if paired is not None:
            finding = FINDINGS[name]
            others = [Paired.of(contrast, rows) for contrast in finding.others]
            contrary = [each.contrast.name for each in others if each and each.verdict is Standing.OPPOSITE]
            mean, interval, _, verdict, _ = _figures(paired)
            if contrary and paired.verdict is Standing.AGREES:
                verdict += f"; **opposite** by {', '.join(contrary)}"
            lines.append(
                (
                    f"[{name.replace('_', ' ')}](#{name.replace('_', '-')}): {finding.question}",
                    f"{finding.published} ({finding.source})",
                    f"{paired.contrast.name}: **{mean}** {_measured(paired.contrast)}",
                    interval,
                    _p(p_values.get(name)),
                    verdict,
                )
            )
    return markdown_table(heads, lines) + "\n"


def corrected_p_values(found: Mapping[str, Paired | None]) -> dict[str, float]:
    """Of the primary comparisons that have one, corrected for their number."""
    every = {name: paired.p_value for name, paired in found.items() if paired is not None}
    return corrected({name: p_value for name, p_value in every.items() if p_value is not None})


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.0001" if value < 1e-4 else f"{value:.4f}" if value < 1e-2 else f"{value:.2f}"


def _measured(contrast: Contrast) -> str:
    labels = dict.fromkeys((contrast.one.measure.label, contrast.other.measure.label))
    return " against ".join(labels)


def _figures(paired: Paired) -> tuple[str, ...]:
    low_high, smallest = paired.interval, paired.smallest
    interval = "" if low_high is None else f"{low_high[0]:+.3f} to {low_high[1]:+.3f}"
    verdict = paired.verdict.value
    bold = f"**{verdict}**" if paired.verdict in _SHOWN else verdict
    power = "" if smallest is None else f"{smallest:.3f}"
    return f"{paired.mean:+.3f}", interval, str(len(paired.seeds)), bold, power


def not_yet(found: Mapping[str, Paired | None], stored: Rows) -> str:
    """A line per finding that has no result, with what stands in the way: the time that it takes."""
    lines = []
    for name, paired in found.items():
        if paired is None:
            finding = FINDINGS[name]
            left = missing_of(finding.arms, SEEDS, stored)
            cost = f"{len(left)} runs, about {duration_text(cost_of(left, stored, CORES).seconds)} on {CORES} cores"
            missing = f" Not part of it: {finding.missing}." if finding.missing else ""
            lines.append(f"- {name}: {finding.question} Not run: {cost}.{missing}")
    return "\n".join(lines or ["None."]) + "\n"


def section(finding: PublishedFinding, rows: RowsByArm, picture: str) -> str:
    """Question, picture, figures, comparisons, and the paragraph where there is one."""
    arms = [arm for arm in finding.arms if rows[arm.name]]
    parts = [
        f"## {finding.name.replace('_', ' ')}\n",
        f"{finding.question} Published: {finding.published} ({finding.source}).\n",
        f"![Training curves, band from the lowest to the highest seed]({picture})\n",
        _scores(arms, finding.corpora, rows),
        _comparisons(finding, rows),
    ]
    if finding.missing:
        parts.append(f"Not part of this: {finding.missing}.\n")
    parts += [_paragraph(finding.name), _runs(arms, rows)]
    return "\n".join(filter(None, parts))


def _paragraph(name: str) -> str:
    """The paragraph of this name with its line break, or nothing."""
    file = PARAGRAPHS / f"{name}.md"
    return file.read_text(encoding="utf-8").strip() + "\n" if file.is_file() else ""


def _scores(arms: Sequence[Arm], corpora: Sequence[str], rows: RowsByArm) -> str:
    heads = (
        "arm",
        "decoding",
        "seeds",
        "retrieval",
        "format",
        "EM",
        "F1",
        "F1, lowest to highest",
        "searches",
        "tokens",
    )
    keys = ("retrieval_rate", "format_rate", "em", "f1")
    lines = []
    for arm, corpus, decoding in product(arms, corpora, ("greedy", "sampled")):
        blocks = [row["heldout"][corpus][decoding] for row in rows[arm.name].values() if corpus in row["heldout"]]
        if blocks:
            f1 = [block["f1"] for block in blocks]
            means = [f"{_mean(blocks, key):.3f}" for key in keys]
            more = (f"{_mean(blocks, 'searches_per_question'):.2f}", f"{_mean(blocks, 'action_tokens'):.1f}")
            spread = f"{min(f1):.3f} to {max(f1):.3f}"
            lines.append((f"{arm.label}{where(corpus)}", decoding, str(len(blocks)), *means, spread, *more))
    return markdown_table(heads, lines) + "\n"


def _mean(blocks: Sequence[Mapping[str, float]], key: str) -> float:
    return sum(block[key] for block in blocks) / len(blocks)


def _comparisons(finding: PublishedFinding, rows: RowsByArm) -> str:
    heads = ("comparison", "measured", "claimed", "here", "95 % interval", "seeds", "verdict", "would show")
    lines = []
    for contrast in (finding.primary, *finding.others):
        paired = Paired.of(contrast, rows)
        if paired is not None:
            name = f"**{contrast.name}** (primary)" if contrast is finding.primary else contrast.name
            claimed = {1: "above", -1: "below", 0: "no difference"}[contrast.claimed]
            lines.append((name, _measured(contrast), claimed, *_figures(paired)))
    return markdown_table(heads, lines) + "\n"


def _runs(arms: Sequence[Arm], rows: RowsByArm) -> str:
    named = [
        f"`{row['run']}` ({row['commit'] or 'no commit'}, world {row['world']}, base {row['base']})"
        for arm in arms
        for _, row in sorted(rows[arm.name].items())
    ]
    return f"<details><summary>{len(named)} runs</summary>\n\n{', '.join(named)}\n\n</details>\n"


_SHOWN = (Standing.AGREES, Standing.OPPOSITE, Standing.DIFFERS)
_INTRODUCTION = """\
# What the papers found, found again

Claims of the papers behind this project, asked in the `findings` setting of the tiny world: a model of 0.6 M
parameters, invented facts, questions of one to three hops and comparisons, a base model that almost never searches.
75 steps of 64 episodes; 250 held-out questions. One comparison of each finding is primary and decides its verdict; it
was written down before the runs (`benchmarks/findings/catalogue.py`). {runs} runs, seeds {seeds}, commits
{commits}.{left_out}

Differences are paired by seed, and intervals are over seeds: they speak about other facts, questions and samples of
this world, not about another base model or size. An interval that holds 0 says that no difference was seen, not that
there is none. The sections say which true difference {planned} seeds with the spread found here *would show* in four of
five cases; {planned} seeds know their spread to a factor of 0.6 to 2.9. Where the claim is that nothing differs, an
interval cannot agree. A model of this size settles nothing about models of 7 B parameters.

`.venv/bin/python -m benchmarks.findings run all` plays what is missing, and
`.venv/bin/python -m benchmarks.findings report` writes this page from `benchmarks/findings/results/*.jsonl`.
"""
_NOT_YET = "## Not run\n"
