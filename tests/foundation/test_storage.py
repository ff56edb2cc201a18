"""Files on a disk that runs full: one clear error, and no half row."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from foundation.errors import InputError, RunAborted
from foundation.storage import JsonLines, write_whole

# A limit on the size of files behaves as a disk of that size: writes are short first, then fail.
LIMITED = """
import resource, signal, sys
from foundation.errors import RunAborted
from foundation.storage import JsonLines
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
log = JsonLines(sys.argv[1])
try:
    for n in range(100):
        log.append({"n": n, "text": "x" * 90})
except RunAborted as error:
    print(error)
"""


def test_a_line_that_does_not_fit_is_taken_back_whole(tmp_path):
    file = tmp_path / "rows.jsonl"
    done = subprocess.run([sys.executable, "-c", LIMITED, file], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cannot write" in done.stdout and "same command" in done.stdout and done.stdout.count("\n") == 1
    lines = file.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["n"] for line in lines] == list(range(len(lines)))
    assert 900 < file.stat().st_size <= 1000 and lines[-1].endswith(b"\n")


def test_no_space_left():
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(RunAborted, match="No space left"):
        JsonLines("/dev/full").append({"n": 1})


def test_half_a_line_of_a_killed_process_is_ended(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"n": 1}\n{"n": ')
    log = JsonLines(file)
    log.append({"n": 2, "text": "\ud800 half a pair"})
    log.close()
    first, half, last = file.read_bytes().splitlines()
    assert (first, half) == (b'{"n": 1}', b'{"n": ') and json.loads(last)["n"] == 2


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "scores.json"
    write_whole(file, "old")

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    code = (
        "import sys; from pathlib import Path; from foundation.storage import write_whole; "
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
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose another path"):
        JsonLines(tmp_path / "file" / "rows.jsonl")
