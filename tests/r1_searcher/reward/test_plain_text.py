"""The `unicode` metrics: ways of writing a right answer are right, other answers stay wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.results.variants import VARIANTS
from r1_searcher.reward.metrics import METRICS, NORMALIZERS, UNICODE, normalize_answer

PUBLISHED = [name for name in VARIANTS if not name.startswith("unicode.")]


@pytest.mark.parametrize(
    ("found", "gold"),
    [
        # golds with en dashes in R1-Searcher's evaluation sets; UKGovernmentBEIS/inspect_ai PR #4636
        ("1861-65", "1861\u201365"),
        ("Beyonce\u0301", "Beyonc\u00e9"),
        ("\u22125", "-5"),
        ("\uff15\uff10\uff10", "500"),
        ("fu\u0308r", "f\u00fcr"),  # mjpost/sacrebleu #224
        ("well\u2011known", "well-known"),  # a no-break hyphen; mrqa/MRQA-Shared-Task-2019 #11
        ("O\u2019Neill", "O'Neill"),  # curly quotes of models; google/adk-python PR #6080
        ("\u201cDune\u201d", '"Dune"'),
        ("zero\u200bwidth\ufeff", "zerowidth"),  # invisible characters of web text
        ("1,234,567", "1234567"),  # thousands, as golds of tables have them
        ("1\u202f234\u00a0567", "1234567"),
        ("1\u2019234", "1234"),
        ("12,34,567", "1234567"),
        ("\u0663\u0664", "34"),  # Arabic-Indic digits
        ("Louis \u2167", "Louis VIII"),
        ("U.S.", "US"),
        ("J. K. Rowling", "J.K. Rowling"),
        ("Simon & Garfunkel", "Simon and Garfunkel"),
        ("Stra\u00dfe", "STRASSE"),
        ("\uff21\uff22\uff23\u3000\u682a\u5f0f\u4f1a\u793e", "ABC\u682a\u5f0f\u4f1a\u793e"),  # a full-width space
        ("\uff76\uff9e\uff72\uff84\uff9e", "ガイド"),  # half-width kana
        ("\uf900", "\u8c48"),  # a compatibility ideograph
        ("10²", "10^2"),
        ("6.02×10²³", "6.02×10^23"),
        ("10⁻³", "10^-3"),
        ("1½", "1 1/2"),
        ("¾", "3/4"),
        ("5 m²", "5 m2"),
        ("H₂O", "H2O"),
    ],
)
def test_ways_of_writing_one_answer(found, gold):
    assert VARIANTS["unicode.em"](found, (gold,)) == VARIANTS["unicode.em"](gold, (found,)) == 1.0
    assert VARIANTS["unicode.f1"](found, (gold,)) == VARIANTS["unicode.cover_em"](found, (gold,)) == 1.0


@pytest.mark.parametrize(
    ("found", "gold"),
    [
        ("5", "-5"),
        ("3.5", "35"),
        ("3.5", "3 5"),
        ("1,2", "12"),
        ("1,0000", "10000"),
        ("resume", "résumé"),
        ("", "the"),
        # compatibility forms lose what was raised: tesseract-ocr/tesseract #1852, its PR #3420
        ("10²", "102"),
        ("10⁻²", "10²"),
        ("1½", "11/2"),
        ("2₁", "21"),
    ],
)
def test_other_answers_stay_other_answers(found, gold):
    assert VARIANTS["unicode.em"](found, (gold,)) == 0.0


@pytest.mark.parametrize(
    ("found", "gold", "f1"),
    [
        ("北京市", "北京", 0.8),  # google-research/xtreme #28, DRCDKnowledgeTeam/DRCD #6
        ("東京タワー", "東京", 4 / 7),
        ("서울은", "서울", 0.8),  # a particle after a name
        ("iPhone 15を買う", "iPhone 15", 4 / 7),
        ("กรุงเทพ", "กรุงเทพ", 1.0),
    ],
)
def test_scripts_without_spaces_share_characters(found, gold, f1):
    assert VARIANTS["unicode.f1"](found, (gold,)) == pytest.approx(f1)
    assert VARIANTS["unicode.cover_em"](found, (gold,)) == 1.0
    if f1 < 1:
        assert all(VARIANTS[f"{name}.f1"](found, (gold,)) < f1 for name in NORMALIZERS if name != "unicode")


def test_canonically_equal_texts_score_1_in_every_variant():
    assert {metric("Beyonce\u0301", ("Beyonc\u00e9",)) for metric in VARIANTS.values()} == {1.0}


def test_the_published_variants_know_nothing_of_it():
    for found, gold in (("1861-65", "1861\u201365"), ("\uff15\uff10\uff10", "500"), ("北京市", "北京")):
        scores = {name: VARIANTS[name](found, (gold,)) for name in PUBLISHED if not name.endswith(".substring")}
        assert set(scores.values()) == {0.0}


@given(st.text(max_size=12))
def test_an_answer_in_plain_text_is_in_plain_text(text):
    once = normalize_answer(text, UNICODE)
    assert normalize_answer(once, UNICODE) == once


@given(st.text(st.sampled_from("aé1,.'- –５東"), max_size=8), st.text(st.sampled_from("aé1,.'- –５東"), max_size=8))
def test_equal_under_a_published_em_is_equal_under_ours_or_a_number(found, gold):
    """Only a minus, a point or a separator, which the published ones drop, can tell more apart."""
    if METRICS["r1_searcher.em"](found, (gold,)) and not any(c in "-–.'," for c in found + gold):
        assert METRICS["unicode.em"](found, (gold,)) == 1.0
