"""The page of a real run: what is finished is told, from the folders that `train_scripts/real.sh` leaves."""

from __future__ import annotations

import pytest
from support.runs.real_runs import evaluated, trained

from benchmarks import real_page


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "real"
    run.mkdir()
    evaluated(run / "cold", False, True, False)
    evaluated(run / "stage2", True, False, False)
    trained(run / "stage1_run", 0.1, 0.2)
    trained(run / "stage2_run", 0.3)
    trained(run / "seed1.stage1_run", 0.2)
    return run


def test_a_run_is_told_as_far_as_it_has_come(folder, tmp_path):
    page, picture = tmp_path / "page.md", tmp_path / "curves.png"
    page.write_text("# A real model\n\nFirst words.\n")
    assert real_page.main([str(folder), "--markdown", str(page), "--picture", str(picture)]) == 0
    text = page.read_text()
    assert text.startswith("# A real model\n\nFirst words.\n") and picture.read_bytes().startswith(b"\x89PNG")
    assert "| cold | greedy | 3 |" in text and "| stage2 | greedy | 3 |" in text and "| stage1 | greedy" not in text
    assert "| cold → stage2 | greedy | 0.0 [" in text
    assert "| stage1 | 2 | 8 | 400 | 30 | 10 | 16 | 200 |" in text, "8 episodes of 400 tokens in 16 s"
    assert "| seed1.stage1 | 1 |" in text and "seed1.stage2" not in text
    assert "over 4 steps: median 0.00050" in text
    assert "| cold, greedy | 0: 0.0 | 0: 0.0 | 1: 100.0 | 2: 0.0 |" in text, "shown where it searched, which was right"


def test_an_episode_of_each_change_is_shown_with_its_documents_cut_short(folder):
    text = real_page.markdown(folder, "curves.png")
    told = [line for line in text.splitlines() if line.startswith("**")]
    assert told == [
        "**Where is tower 0?** (Paris; right only afterwards)",
        "**Where is tower 1?** (Paris; right only before)",
        "**Where is tower 2?** (Paris; wrong both times)",
    ]
    assert text.count("cold start:\n\n```\n") == text.count("stage 2:\n\n```\n") == 3
    shown = text[text.index("**Where is tower 1?**") :]
    assert "<|begin_of_documents|>" in shown and "Paris" in shown and "Question" not in shown


def test_further_questions_have_a_section_of_their_own(folder):
    assert "## Further questions" not in real_page.markdown(folder, "curves.png")
    (folder / real_page.UNSEEN / "begun").mkdir(parents=True)
    assert "## Further questions" not in real_page.markdown(folder, "curves.png"), "none is finished"
    evaluated(folder / real_page.UNSEEN / "cold", False, False, False)
    evaluated(folder / real_page.UNSEEN / "seed1.stage2", True, True, True)
    text = real_page.markdown(folder, "curves.png")
    further = text[text.index("## Further questions") : text.index("## Training")]
    assert "questions together" not in further, "the dev questions have no such evaluation"
    assert "| seed1.stage2 | greedy | 3 |" in further and "| cold → seed1.stage2 | greedy | 100.0 [" in further


def test_variants_stand_beside_the_first_settings(folder):
    assert "Variants against" not in real_page.markdown(folder, "curves.png")
    evaluated(folder / "no_mask.stage2", True, True, False)
    trained(folder / "no_mask.stage2_run", 0.4)
    text = real_page.markdown(folder, "curves.png")
    assert "| no_mask.stage2, greedy | 1 | 33.3 [" in text and "→ no_mask.stage2" not in text
    assert "| no_mask.stage2 | 1 | 8 |" in text, "its steps"


def test_dev_and_further_questions_are_compared_together(folder):
    for name, right in {"cold": (False, False), "stage2": (True, False)}.items():
        evaluated(folder / real_page.UNSEEN / name, *right, first=3)
    text = real_page.markdown(folder, "curves.png")
    assert "questions together" in text
    line = "| stage2, greedy | 5 | 1 | 100.0 → 100.0 | 20.0 → 40.0 | 20.0 ["
    assert line in text, "of five questions, one more is right and one less, then one more"


def test_a_training_that_went_on_from_anothers_stage_1_begins_where_that_ended(folder):
    evaluated(folder / "longer.stage2", True, True, True)
    trained(folder / "longer.stage2_run", 0.4, 0.5)
    trained(folder / "longer_seed1.stage2_run", 0.4)
    played = {each.training.name: each for each in real_page.read_trainings(folder)}
    assert [(name, each.before, each.first_stage_ends) for name, each in played.items()] == [
        ("", 0, 2),
        ("seed1", 0, 1),
        ("longer", 2, 2),
        ("longer_seed1", 1, 1),
    ]
    text = real_page.markdown(folder, "curves.png")
    assert "| longer.stage2 | 2 | 8 |" in text and "| longer.stage2, greedy | 1 | 66.7 [" in text


def test_a_folder_without_an_evaluation_is_one_line(tmp_path, capsys):
    files = ["--markdown", str(tmp_path / "page.md"), "--picture", str(tmp_path / "curves.png")]
    assert real_page.main([str(tmp_path), *files]) == 2
    assert "holds no evaluation" in capsys.readouterr().err and not list(tmp_path.iterdir())
