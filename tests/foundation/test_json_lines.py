"""JSON lines: nothing half-written is left or read, and a line ends at a line feed and nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from foundation.errors import InputError, RunAborted
from foundation.json_lines import JsonLines, Tail, read_finished, read_strict, write_json_lines

# A limit on the size of files behaves as a disk of that size: writes are short first, then fail.
LIMITED = """
import resource, signal, sys
from foundation.errors import RunAborted
from foundation.json_lines import JsonLines
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


def test_a_wrong_path_is_bad_input(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose another path"):
        JsonLines(tmp_path / "file" / "rows.jsonl")


BREAKS = "\u2028 \u2029 \x85 \x0b \x0c \x1c"
"""What `str.splitlines` would cut at, and JSON lines must not."""


@pytest.mark.parametrize("write", ["append", "whole"])
def test_other_line_breaks_survive_every_reader(tmp_path, write):
    file, rows = tmp_path / "rows.jsonl", [{"text": BREAKS + "\r"}, {"text": "\n"}]
    if write == "append":
        log = JsonLines(file)
        for row in rows:
            log.append(row)
        log.close()
    else:
        write_json_lines(file, rows)
    assert "\u2028" in file.read_text(encoding="utf-8"), "it stands there unescaped"
    assert list(read_finished(file)) == list(Tail(file).new_rows()) == list(read_strict(file, dict)) == rows


def test_the_strict_reader_names_file_and_line(tmp_path):
    file = tmp_path / "rows.jsonl"
    with pytest.raises(InputError, match="file not found: .*rows.jsonl"):
        list(read_strict(file, dict))
    for line, said in (
        ('{"n": ', r"not JSON \(.* at column \d+\)"),
        ("[1]", "must be a JSON object, found list"),
        ('{"m": 1}', "key 'n' is missing"),
        ('{"n": "x"}', "invalid literal"),
    ):
        file.write_text(f'{{"n": 1}}\n\n{line}\n')
        with pytest.raises(InputError, match=f"rows.jsonl, line 3: .*{said}"):
            list(read_strict(file, lambda row: int(row["n"])))
    file.write_bytes(b'{"n": "\xff"}')
    with pytest.raises(LookupError, match="line 1: not UTF-8"):
        list(read_strict(file, dict, error=LookupError))


@pytest.mark.parametrize(
    ("left", "said"), [(b'{"n": ', "not JSON"), ('{"n": "ö'.encode()[:-1], "not UTF-8")], ids=["JSON", "a character"]
)
def test_an_unfinished_line_is_an_error_except_in_a_growing_file(tmp_path, left, said):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"n": 1}\n' + left)
    assert list(read_strict(file, dict, growing=True)) == [{"n": 1}]
    with pytest.raises(InputError, match=f"line 2: {said}"):
        list(read_strict(file, dict))
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(InputError, match=f"line 2: {said}"):
        list(read_strict(file, dict, growing=True))


def test_the_forgiving_reader_leaves_out_what_is_broken(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"n": 1}\n{"n": \n\n\xff\n{"n": 4}\n{"n": 5}')
    assert list(read_finished(file)) == [{"n": 1}, {"n": 4}]


def test_the_tail_gives_each_row_once_when_it_is_finished(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"n": 1}\nhalf\n{"n"')
    tail = Tail(file)
    assert list(tail.new_rows()) == [{"n": 1}] and not list(tail.new_rows())
    with file.open("ab") as more:
        more.write(b': 2}\n{"n": 3}\n')
    assert list(tail.new_rows()) == [{"n": 2}, {"n": 3}] and not list(tail.new_rows())
