"""Command lines: every `main` of the repository ends in the same statuses, with one line where something was wrong."""

from __future__ import annotations

import argparse
import ast
import errno
import inspect
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes.commands import main_of, status_of

from eval.results.folder_summary import summary_command
from foundation.cli import (
    ABORTED,
    BAD_INPUT,
    DONE,
    INTERRUPTED,
    NOBODY_READS,
    OneLineParser,
    above_zero,
    expected,
    natural,
    port,
    positive,
    run_command,
    share,
)
from foundation.errors import BadResponse, InputError, RunAborted

ROOT = Path(__file__).parents[2]
PACKAGES = ("foundation", "r1_searcher", "retriever", "eval", "data_prep", "benchmarks")
INTERNAL = {"r1_searcher.host.driver", "r1_searcher.host.sft_driver"}
"""Started by us with a fixed command line; they have no parser of their own."""
WRONG = {
    "r1_searcher.train": ("--device", "none"),
    "r1_searcher.doctor": ("--top-k", "x"),
    "eval.quickstart": ("--seed", "x"),
    "eval.real_run": ("--seed", "x"),
}
"""Of commands that hand unknown flags on."""


def can_be_run(source: str) -> bool:
    """Whether a module has a block for `python -m`; only where the word stands in it is it worth parsing."""
    return "__main__" in source and any(
        isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in ast.parse(source).body
    )


SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8")
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
COMMANDS = [name.removesuffix(".__main__") for name, source in SOURCES.items() if can_be_run(source)]
OF_USERS = [name for name in COMMANDS if name not in INTERNAL]


def test_there_are_commands():
    assert len(COMMANDS) > 30
    blocks = sum(source.count('if __name__ == "__main__":\n    sys.exit(main())\n') for source in SOURCES.values())
    assert blocks == len(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_main_returns_the_status_of_run_command(command):
    body = ast.parse(inspect.getsource(main_of(command))).body[0].body
    assert isinstance(body[-1], ast.Return)
    assert ast.unparse(body[-1]).startswith(("return run_command(", "return summary_command(")), command


def test_the_shared_frame_of_summaries_returns_it_too():
    body = ast.parse(inspect.getsource(summary_command)).body[0].body
    assert ast.unparse(body[-1]).startswith("return run_command(")


@pytest.mark.parametrize("command", OF_USERS)
def test_a_wrong_command_line_is_one_line_and_status_2(command, capsys, monkeypatch):
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)
    try:
        status = main_of(command)(WRONG.get(command, ("--no-such-flag-of-anything",)))
    except SystemExit as stopped:
        status = stopped.code
    said = capsys.readouterr().err
    assert status == BAD_INPUT
    assert len(said.splitlines()) == 1 and said.endswith("(see --help)\n")


def raising(error: BaseException):
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize(
    "error, status, line",
    [
        (InputError("no\nsuch file"), BAD_INPUT, "name: no such file\n"),
        (RunAborted("the service is down"), ABORTED, "name: the service is down\n"),
        (BadResponse("garbage"), ABORTED, "name: garbage\n"),
        (KeyboardInterrupt(), INTERRUPTED, "name: interrupted\n"),
        (
            OSError(errno.EROFS, "Read-only file system", "/runs"),
            BAD_INPUT,
            "name: /runs: Read-only file system; choose another path, or change who may use it\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", b"/runs"),
            BAD_INPUT,
            "name: /runs: Permission denied; choose another path, or change who may use it\n",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "/runs"),
            ABORTED,
            "name: cannot write /runs: No space left on device. Free some space and run the same command again: "
            "what is finished is kept.\n",
        ),
    ],
)
def test_statuses_of_expected_errors(error, status, line, capsys):
    assert run_command("name", raising(error)) == status
    assert capsys.readouterr().err == line


def test_a_command_may_have_a_status_of_its_own_and_a_bug_raises(capsys):
    assert run_command("name", lambda: 4) == 4 and run_command("name", lambda: None) == DONE
    assert run_command("name", raising(KeyboardInterrupt()), resumable=True) == INTERRUPTED
    assert "the same command continues from here" in capsys.readouterr().err
    for bug in (ZeroDivisionError(), FileNotFoundError(errno.ENOENT, "no", "/x"), OSError(errno.EPERM, "no file")):
        with pytest.raises(type(bug)):
            run_command("name", raising(bug))


@pytest.mark.parametrize("size", [1, 1 << 20], ids=["kept in the buffer", "written at once"])
def test_output_that_nobody_reads_is_no_error(monkeypatch, size):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread, monkeypatch.context() as changed:
        changed.setattr("sys.stdout", unread)
        assert run_command("name", lambda: print("x" * size)) == NOBODY_READS
        print("nothing complains later")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_a_full_disk_does_not_take_is_one_line(unbuffered):
    """`… > file` on a disk that is full."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "eval.rescore", "--list"]
        ended = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    assert ended.returncode == ABORTED and ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("eval.rescore: cannot write the output, or a file: No space left")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_of_letters_that_a_terminal_has_not(encoding, monkeypatch):
    """canonical/ubuntu-pro-client #859; and a name of a file whose bytes are no text."""
    parser = OneLineParser(prog="name", description="\u2026 \u6771\u4eac")
    with io.TextIOWrapper(io.BytesIO(), encoding=encoding) as terminal, monkeypatch.context() as changed:
        changed.setattr("sys.stdout", terminal)
        assert status_of(parser.parse_args, "--help") == DONE
        assert run_command("name", lambda: print(os.fsdecode(b"\xfcbung"))) == DONE
        shown = terminal.buffer.getvalue()
    assert shown.startswith(b"usage: name") and shown.endswith(b"\\udcfcbung\n")


def test_a_broken_connection_is_not_taken_for_it():
    with pytest.raises(BrokenPipeError):
        run_command("name", raising(BrokenPipeError("a socket of a library")))


@pytest.mark.parametrize("command", OF_USERS)
def test_help_that_nobody_reads_is_no_error(command, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread, monkeypatch.context() as changed:
        changed.setattr("sys.stdout", unread)
        assert status_of(main_of(command), "--help") == NOBODY_READS
        print("nothing complains later")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("flag", ["--list", "--help"])
def test_head_ends_a_command_without_a_word(flag, unbuffered):
    """The whole way, since an interpreter complains at its very end, of what it has buffered."""
    script = f'"$1" -m eval.rescore {flag} | :; echo "status ${{PIPESTATUS[0]}}"'
    words, environment = ["bash", "-c", script, "bash", sys.executable], {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    ended = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert (ended.stdout, ended.stderr) == (f"status {NOBODY_READS}\n", "")


def test_errors_of_other_kinds_are_translated():
    with pytest.raises(InputError, match="a wrong value"), expected(ValueError):
        raise ValueError("a wrong value")
    with pytest.raises(RunAborted, match="/x: No space left"), expected(OSError):
        raise OSError(errno.ENOSPC, "No space left on device", "/x")
    with pytest.raises(InputError, match="No such file"), expected(OSError):
        raise OSError(errno.ENOENT, "No such file or directory", "/x")
    with pytest.raises(ValueError), expected(OSError):
        raise ValueError("a bug")


@pytest.mark.parametrize(
    "kind, good, bad",
    [
        (positive, {"1": 1, "20": 20}, ["0", "-1", "x", "1.5", ""]),
        (natural, {"0": 0, "3": 3}, ["-1", "x"]),
        (port, {"0": 0, "65535": 65535}, ["-1", "65536", "http"]),
        (above_zero, {"0.5": 0.5, "3": 3.0}, ["0", "-1", "nan", "inf", "x"]),
        (share, {"0.5": 0.5, "1": 1.0}, ["0", "-1", "1.01", "nan", "x"]),
    ],
)
def test_types_of_arguments(kind, good, bad):
    assert {text: kind(text) for text in good} == good
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match="found"):
            kind(text)


def test_the_descriptions_keep_their_lines():
    text = "First.\n\n    python -m a --b\n    python -m c"
    assert text in OneLineParser(prog="a", description=text).format_help()
