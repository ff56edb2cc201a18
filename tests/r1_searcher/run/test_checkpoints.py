"""Checkpoints of a run: which are whole, going back to one, and what kills leave behind, in DeepSpeed's own layout."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.runs.run_folders import run_folder, write_checkpoint

from r1_searcher.run.checkpoints import (
    ModelCheckpoints,
    go_back_to,
    kept_steps,
    rotate_saved_models,
    saved_models,
    settle,
    settle_models,
)
from r1_searcher.run.run_folder import RunFolder

OPTIMIZER_FILE = "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"


def actor(folder: RunFolder, step: int) -> Path:
    return folder.checkpoints / "_actor" / f"global_step{step}"


def critic(folder: RunFolder, step: int) -> Path:
    return folder.checkpoints / "_critic" / f"global_step{step}"


def left(folder: RunFolder) -> list[str]:
    """The checkpoints that are there, and what `latest` names."""
    found = [path for model in ("_actor", "_critic") for path in (folder.checkpoints / model).glob("*")]
    return sorted(
        f"{path.parent.name[1:]}:{path.read_text() if path.name == 'latest' else path.name}".replace("global_step", "")
        for path in found
    )


def both(*steps: int, latest: int) -> list[str]:
    return sorted([f"{model}:{step}" for model in ("actor", "critic") for step in (*steps, latest)])


def test_going_back_to_a_kept_checkpoint(tmp_path):
    folder = run_folder(tmp_path, 10, 20, 30, latest=20)
    (tmp_path / "checkpoints" / "_actor" / "best_global_step5").mkdir()
    assert kept_steps(folder) == [10, 20], "30 was not finished"
    go_back_to(folder, 10)
    assert folder.last_step == 10
    assert (tmp_path / "checkpoints" / "_critic" / "latest").read_text() == "global_step10"
    assert kept_steps(RunFolder(tmp_path / "empty")) == []


def test_a_run_that_was_not_killed_keeps_everything(tmp_path):
    folder = run_folder(tmp_path, 10, 20)
    (folder.checkpoints / "global_step20_hf").mkdir()
    before = {path: path.stat().st_mtime_ns for path in folder.checkpoints.rglob("*")}
    settle(folder, critic=True)
    settle(RunFolder(tmp_path / "new"), critic=True)
    assert {path: path.stat().st_mtime_ns for path in folder.checkpoints.rglob("*")} == before


def test_a_fine_tuning_continues_from_its_newest_whole_checkpoint(tmp_path):
    model = ModelCheckpoints(tmp_path)
    for step in (16, 32):
        write_checkpoint(model.folder(step))
    (tmp_path / "global_step16_hf").mkdir()
    model.folder(48).mkdir()
    model.latest_file.write_text("global_step48")
    assert settle_models([model]) == 32
    assert model.steps() == [16, 32] and model.latest == 32
    for step in (16, 32):
        next(model.folder(step).glob("*.pt")).write_bytes(b"half")
    assert settle_models([model]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["global_step16_hf"]


def test_killed_in_the_first_checkpoint_a_run_begins_anew(tmp_path):
    """The folder is there and `latest` is not: OpenRLHF would fail with KeyError 'episode', for ever."""
    folder = RunFolder(tmp_path)
    write_checkpoint(actor(folder, 10))
    (actor(folder, 10) / OPTIMIZER_FILE).unlink()
    (folder.checkpoints / "global_step10_hf").mkdir()
    settle(folder, critic=False)
    assert list(folder.checkpoints.iterdir()) == [] and folder.last_step == 0


def test_killed_between_the_first_of_the_actor_and_of_the_critic_a_run_begins_anew(tmp_path):
    folder = run_folder(tmp_path, 10)
    shutil.rmtree(folder.checkpoints / "_critic")
    settle(folder, critic=True)
    assert list(folder.checkpoints.iterdir()) == []


@pytest.mark.parametrize("behind", ["_actor", "_critic"])
def test_actor_and_critic_go_back_to_what_both_have(tmp_path, behind):
    folder = run_folder(tmp_path, 10, 20)
    shutil.rmtree(folder.checkpoints / behind / "global_step20")
    (folder.checkpoints / behind / "latest").write_text("global_step10")
    settle(folder, critic=True)
    assert left(folder) == both(10, latest=10)


def test_a_named_checkpoint_without_the_file_of_a_slower_rank_is_not_whole(tmp_path):
    """Rank 0 writes `latest` without waiting for the others."""
    folder = run_folder(tmp_path, 10)
    write_checkpoint(actor(folder, 20), ranks=2)
    (actor(folder, 20) / OPTIMIZER_FILE.replace("pp_rank_0", "pp_rank_1")).unlink()
    (folder.checkpoints / "_actor" / "latest").write_text("global_step20")
    settle(folder, critic=False)
    assert folder.last_step == 10 and not actor(folder, 20).exists()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("file", [OPTIMIZER_FILE, "mp_rank_00_model_states.pt"])
def test_a_file_that_was_not_written_to_its_end_is_none(tmp_path, file, share):
    folder = run_folder(tmp_path, 10, 20)
    content = (critic(folder, 20) / file).read_bytes()
    (critic(folder, 20) / file).write_bytes(content[: int(share * len(content))])
    settle(folder, critic=True)
    assert left(folder) == both(10, latest=10)


def test_half_of_a_checkpoint_that_was_rotated_away_is_removed(tmp_path):
    folder = run_folder(tmp_path, 10, 20)
    (actor(folder, 10) / "mp_rank_00_model_states.pt").unlink()
    assert kept_steps(folder) == [20]
    settle(folder, critic=True)
    assert left(folder) == both(20, latest=20)


def test_a_name_that_was_not_written_means_the_newest_whole_one(tmp_path):
    folder = run_folder(tmp_path, 10, 20)
    for model in ("_actor", "_critic"):
        (folder.checkpoints / model / "latest").write_text("")
    settle(folder, critic=True)
    assert left(folder) == both(10, 20, latest=20)


def test_after_going_back_the_later_ones_make_room(tmp_path):
    """OpenRLHF rotates the oldest away first: with two kept, 10 would be deleted before anything else was whole."""
    folder = run_folder(tmp_path, 10, 20)
    go_back_to(folder, 10)
    settle(folder, critic=True)
    assert left(folder) == both(10, latest=10)


def test_models_saved_after_the_checkpoint_go_with_it(tmp_path):
    folder = run_folder(tmp_path, 10)
    write_checkpoint(actor(folder, 20))
    for step in (10, 20):
        (folder.checkpoints / f"global_step{step}_hf").mkdir()
    settle(folder, critic=True)
    assert list(saved_models(folder)) == [10]


def test_saved_models_rotate_with_the_checkpoints(tmp_path):
    folder = run_folder(tmp_path, 20, 30)
    for step in (10, 20, 30):
        (folder.checkpoints / f"global_step{step}_hf").mkdir()
    rotate_saved_models(folder, keep=1)
    assert sorted(saved_models(folder)) == [20, 30], "10's checkpoint is gone"


def test_of_models_alone_the_newest_are_kept(tmp_path):
    folder = RunFolder(tmp_path)
    for number, step in enumerate((5, 10, 100, 20)):
        path = folder.checkpoints / f"global_step{step}_hf"
        path.mkdir(parents=True)
        os.utime(path, (number, number))
    rotate_saved_models(folder, keep=2)
    assert sorted(saved_models(folder)) == [20, 100]
