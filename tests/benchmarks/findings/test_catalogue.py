"""The table of claims, and arms that a trainer takes."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from support.runs.finding_rows import row

from benchmarks.findings import __main__ as command
from benchmarks.findings.arms import ARMS, BUDGET_PROMPT, PRESETS, find_arm
from benchmarks.findings.catalogue import FINDINGS, SEEDS, arms_of, find_findings
from benchmarks.findings.measures import F1
from foundation.errors import InputError
from r1_searcher import train
from r1_searcher.recipe.presets import find_preset


def test_there_are_fourteen_claims_each_with_a_source_and_a_primary_measure() -> None:
    assert len(FINDINGS) == 14 and len(SEEDS) >= 5
    for finding in FINDINGS.values():
        assert "http" in finding.source and finding.published and finding.question.endswith("?")
        assert {finding.primary.claimed, *(each.claimed for each in finding.others)} <= {1, -1, 0}
        assert finding.primary.claimed != 0, "a verdict needs a direction"
        assert len({each.name for each in (finding.primary, *finding.others)}) == 1 + len(finding.others)
    assert {arm.name for arm in arms_of(find_findings(["all"]))} == set(ARMS)


def test_every_measure_asks_for_what_its_arms_evaluate() -> None:
    for finding in FINDINGS.values():
        for contrast in (finding.primary, *finding.others):
            for side in (contrast.one, contrast.other):
                assert isinstance(side.measure.of(row(side.arm, 10, 0.5)), float), (finding.name, contrast.name)


TRAINED = [arm.name for arm in ARMS.values() if arm.trained and not arm.taught_by]


@pytest.mark.parametrize("name", TRAINED)
def test_the_trainer_takes_the_options_of_every_arm(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arm = find_arm(name)
    options = [word.replace("{base}", "base") for word in arm.options]
    data = tmp_path / "questions.jsonl"
    words = ["--preset", arm.preset_file, "--stage", arm.stage, "--seed", "10", "--dry-run", "--data", str(data)]
    search = f"simulate:http://127.0.0.1:1/v1?noise={arm.noise}" if arm.noise else "http://127.0.0.1:1"
    assert train.main([*words, "--run-dir", str(tmp_path / "run"), "--search", search, *options]) == 0
    said = shlex.split(capsys.readouterr().out)
    last = {flag: value for flag, value in zip(said, said[1:], strict=False) if flag.startswith("--rollout.")}
    assert int(last["--rollout.batch_size"]) * int(last["--rollout.n_samples_per_prompt"]) == 64, "equal episodes"


def test_an_arms_digest_changes_with_what_it_does_and_not_with_its_name() -> None:
    arm = find_arm("mask")
    assert replace(arm, name="x", label="y").digest == arm.digest != find_arm("no_mask").digest
    assert replace(arm, searched="noisy").digest != arm.digest
    assert len({each.digest for each in ARMS.values()}) == len(ARMS), "no two arms are the same"
    assert find_arm("sft").settings["teacher"] == find_arm("searching_stage2").settings


def test_the_budgets_prompt_holds_the_question_and_opens_the_thought() -> None:
    assert BUDGET_PROMPT.read_text().endswith("Question : {question}\n<think>")


def test_unknown_names_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["run", "masks"]) == 2
    assert "no finding 'masks'; known: stages, mask" in capsys.readouterr().err
    with pytest.raises(InputError, match="unknown arm 'x'"):
        find_arm("x")


def test_the_findings_preset_is_the_harder_world() -> None:
    for name in ("findings", "findings_searching", "findings_top_k"):
        preset = find_preset(str(PRESETS / f"{name}.toml"))
        assert preset.tiny is not None and preset.tiny.world == name and preset.model.endswith(name)
    assert F1.of(row("mask", 1, 0.25)) == 0.25
