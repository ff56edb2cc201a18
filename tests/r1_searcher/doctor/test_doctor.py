"""The doctor's command: a good set-up gives no word of complaint, a failed check is its status."""

from __future__ import annotations

import shutil

import pytest
from support.models.subjects import (
    BASE,
    TURNS,
)

from r1_searcher.doctor.__main__ import main
from r1_searcher.doctor.checks import CHECKS


def test_a_good_setup_gets_no_word_of_complaint(live_url, capsys):
    status = main(["--recipe", "tiny.stage2", "--model", str(BASE), "--search", live_url])
    lines = capsys.readouterr().out.splitlines()
    assert status == 0 and len(lines) == len(CHECKS)
    assert all(line.startswith("ok ") for line in lines), lines


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--recipe", "nonsense", "--model", str(BASE)], "unknown recipe 'nonsense'"),
        (["--recipe", "tiny.stage2", "--model", "/nowhere/model"], "model path not found"),
        (["--recipe", "tiny.stage2", "--model", str(BASE), "--max-length", "8"], "max_length 8"),
        (["--recipe", "tiny.stage2", "--model", str(BASE), "--data", "/nowhere.jsonl"], "/nowhere.jsonl"),
        (["--recipe", "tiny.stage2", "--model", str(BASE), "--prompt-file", "/nowhere.txt"], "/nowhere.txt"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, words):
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert words in shown.err and shown.err.count("\n") == 1 and shown.out == ""


@pytest.mark.parametrize(("file", "level"), [(None, "warning"), ("", "ok"), ("Search.", "warning")])
def test_a_system_message_can_be_switched_off_by_an_empty_file(tmp_path, capsys, file, level):
    """google-deepmind/gemma #203: a template that raises on one."""
    shutil.copytree(BASE, tmp_path / "model")
    raising = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    (tmp_path / "model" / "chat_template.jinja").write_text(raising + TURNS)
    given = []
    if file is not None:
        (tmp_path / "system.txt").write_text(file)
        given = ["--system-prompt-file", str(tmp_path / "system.txt")]
    main(["--recipe", "r1_searcher.chat.stage2", "--model", str(tmp_path / "model"), *given])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.split()[1] == "chat")
    assert line.split()[0] == level, line


def test_a_failed_check_is_the_status(capsys):
    assert main(["--recipe", "tiny.stage2", "--model", str(BASE), "--max-length", "60"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("FAILED")] == ["length"]
    assert " -> raise --max-length" in next(line for line in lines if line.startswith("FAILED"))
