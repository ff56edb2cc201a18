"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys

import pytest

from foundation.errors import InputError, RunAborted
from foundation.files import draft, drafts_in, file_sha256, read_json, text_number, text_sha256, write_json, write_whole


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "scores.json"
    write_whole(file, "old")

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    code = (
        "import sys; from pathlib import Path; from foundation.files import write_whole; "
        "from foundation.errors import RunAborted\n"
        "try: write_whole(Path(sys.argv[1]), 'x' * 5000)\n"
        "except RunAborted as error: print(error)"
    )
    command = [sys.executable, "-c", code, file]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited)
    assert "cannot write" in done.stdout, done.stderr
    assert file.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_a_wrong_path_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="choose another path"):
        write_whole(tmp_path / "none" / "file", "x")


def test_a_draft_becomes_the_file_when_all_went_well(tmp_path):
    file = tmp_path / "file"
    with draft(file) as temporary:
        temporary.write_text("new")
        assert not file.exists() and drafts_in(tmp_path) == [temporary]
    assert file.read_text() == "new" and not drafts_in(tmp_path)
    with pytest.raises(ZeroDivisionError), draft(file) as temporary:
        temporary.write_text("newer")
        raise ZeroDivisionError
    assert file.read_text() == "new" and not drafts_in(tmp_path)


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    """The file is one's or the other's, whole; the one that ends later wins, and neither fails."""
    file = tmp_path / "state.json"
    with draft(file) as slow, draft(file) as fast:
        slow.write_text("of the slow one")
        fast.write_text("of the fast one")
    assert file.read_text() == "of the slow one" and not drafts_in(tmp_path)


def test_a_full_disk_ends_the_run_and_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(RunAborted, match=r"cannot write .*file: No space left.*same command"), draft(tmp_path / "file"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError), draft(tmp_path / "file"):
        (tmp_path / "none").read_text()


def test_json_is_for_people_and_for_programs(tmp_path):
    write_json(tmp_path / "a.json", {"b": "ü", "a": [1]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"b": "ü", "a": [1]} and "ü" in text and text.startswith('{\n  "b"')


def test_a_json_object_is_read_and_all_else_is_named(tmp_path):
    file = tmp_path / "scores.json"
    write_json(file, {"é": 1})
    assert read_json(file) == {"é": 1}
    for content, said in (
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[]", "must hold a JSON object, found list"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=f"scores.json {said}"):
            read_json(file)
    with pytest.raises(InputError, match="cannot read .*none.json .No such file"):
        read_json(tmp_path / "none.json")


def test_a_text_and_its_file_have_one_hash(tmp_path):
    (tmp_path / "text").write_text("Zürich\n", encoding="utf-8")
    assert text_sha256("Zürich\n") == file_sha256(tmp_path / "text")
    assert text_sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert text_sha256("\ud800") != text_sha256("\ud801")


def test_the_number_of_a_text_is_that_of_saved_indexes():
    assert text_number("Curaçao") == 0xB31C565E3B0F67BF
