"""Checkpoints of a run: which are kept, and going back to one."""

from __future__ import annotations

from support.run_fakes import run_folder

from r1_searcher.run.checkpoints import go_back_to, kept_steps
from r1_searcher.run.run_folder import RunFolder


def test_going_back_to_a_kept_checkpoint(tmp_path):
    folder = run_folder(tmp_path, 10, 20, 30, latest=20)
    (tmp_path / "checkpoints" / "_actor" / "best_global_step5").mkdir()
    assert kept_steps(folder) == [10, 20], "30 was not finished"
    go_back_to(folder, 10)
    assert folder.last_step == 10
    assert (tmp_path / "checkpoints" / "_critic" / "latest").read_text() == "global_step10"
    assert kept_steps(RunFolder(tmp_path / "empty")) == []
