"""What every command shares: the parser, types of arguments, its log, exit statuses, and one line per expected error.

A `main` parses its flags with `OneLineParser` and returns `run_command(name, run)`. The statuses are a promise to
scripts; `docs/architecture.md` lists them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import math
import os
import select
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from foundation.errors import InputError, OutsideFailure, RunAborted
from foundation.files import as_users_error, is_disk_failure, storage_error
from foundation.process import settle_home, stop_with_starter
from foundation.secrets import hide

DONE = 0
"""Exit status of a finished command, also after a signal that ends a server."""
FAILED = 1
"""Exit status where a program that the command started failed (its log says why), or after a bug's traceback."""
BAD_INPUT = 2
"""Exit status where what the user gave cannot work."""
ABORTED = 3
"""Exit status where an outside service, or the disk, ended the run."""
GUARDED = 4
"""Exit status where the collapse guard ended the training."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
NOBODY_READS = 141
"""Exit status where whoever read the output has left (`… | head`), as shells have it."""

PLAIN = "%(message)s"
"""Lines of a command that a person reads."""
NAMED = "%(levelname)s %(name)s: %(message)s"
"""Lines of a command among those of libraries and other processes."""
TIMED = f"%(asctime)s {NAMED}"
"""Lines of a service."""


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose error is one line on stderr, and whose description keeps its lines.

    It sees no secrets: they have moved to the environment before it looks (see `foundation.secrets`). A process that
    was started with one replaces itself by one without, since every user of the machine can read a command line.
    """

    def __init__(self, *, secret_flags: Mapping[str, str] | None = None, **settings: Any) -> None:
        """`secret_flags`: flag that takes a secret -> environment variable that its value moves to."""
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **settings})
        self._secret_flags = dict(secret_flags or {})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As the library does; without `args`, the arguments of this process."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A name of bytes that are no text, or a terminal of few letters, must not end a command that is done.
            sys.stdout.reconfigure(errors="backslashreplace")
        given = sys.argv[1:] if args is None else list(args)
        shown = hide(given, self._secret_flags)
        if args is None and shown != given:
            interpreter = sys.orig_argv[: len(sys.orig_argv) - len(given)]
            os.execv(sys.executable, [*interpreter, *shown])
        return super().parse_known_args(shown, namespace)

    def error(self, message: str) -> NoReturn:
        """Leave with one line instead of the whole usage text."""
        self.exit(BAD_INPUT, f"{self.prog}: error: {_one_line(message)} (see --help)\n")

    def exit(self, status: int = DONE, message: str | None = None) -> NoReturn:
        """Leave; without a word, too, where whoever read the help has left (`--help | head`)."""
        if status == DONE:
            status = _status_of(self.prog, lambda: None)
        if status == DONE and _drop_unread_output():
            status = NOBODY_READS
        super().exit(status, message)


def log_to_stderr(form: str = PLAIN, *, level: int = logging.INFO) -> None:
    """Show what is logged from `level` on, each line in this form; standard output is for results and protocols."""
    logging.basicConfig(level=level, format=form, stream=sys.stderr)


def run_command(name: str, run: Callable[[], int | None], *, resumable: bool = False) -> int:
    """Exit status of `run()`; an expected error is one line on stderr, a bug raises.

    Args:
        name: of the command, which its lines on stderr begin with.
        run: the work; returns a status of its own, or None when it is done.
        resumable: whether the same command continues after Ctrl-C where it stopped.
    """
    settle_home()
    stop_with_starter()
    return _status_of(name, run, hint="; the same command continues from here" if resumable else "")


def _status_of(name: str, run: Callable[[], int | None], *, hint: str = "") -> int:
    try:
        status = run() or DONE
        if sys.stdout is not None:
            sys.stdout.flush()  # here and not at the interpreter's end, where an error of it has no status
        return status
    except (InputError, RunAborted, OutsideFailure) as error:
        print(f"{name}: {_one_line(str(error))}", file=sys.stderr, flush=True)
        return BAD_INPUT if isinstance(error, InputError) else ABORTED
    except BrokenPipeError:
        if not _drop_unread_output():
            raise
        return NOBODY_READS
    except OSError as error:
        found = as_users_error(error)
        if found is None and is_disk_failure(error):
            found = storage_error(Path("the output, or a file"), error)
        if found is None:
            raise
        _drop_unwritten_output()
        print(f"{name}: {_one_line(str(found))}", file=sys.stderr, flush=True)
        return BAD_INPUT if isinstance(found, InputError) else ABORTED
    except KeyboardInterrupt:
        print(f"{name}: interrupted{hint}", file=sys.stderr)
        return INTERRUPTED


@contextlib.contextmanager
def expected(*bad_input: type[Exception]) -> Iterator[None]:
    """Report errors of a library's own kinds as the user's.

    Args:
        bad_input: kinds that mean an argument cannot work; an `OSError` of a full or broken disk is none of them.

    Raises:
        InputError: for one of `bad_input`.
        RunAborted: for a disk that is full or broken.
    """
    try:
        yield
    except bad_input as error:
        if isinstance(error, OSError) and is_disk_failure(error):
            raise storage_error(Path(error.filename or "a file"), error) from error
        raise InputError(str(error)) from error


def check_output(path: Path | None) -> None:
    """Refuse an output file whose folder is missing, before any work is done. Raises `InputError`."""
    if path is not None and (path.is_dir() or not path.resolve().parent.is_dir()):
        raise InputError(f"cannot write {path}: expected a file in an existing folder")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _integer(text, 1)


def natural(text: str) -> int:
    """A whole number of at least 0."""
    return _integer(text, 0)


def port(text: str) -> int:
    """A TCP port; 0 asks the system for a free one."""
    if not (text.isascii() and text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, found {text!r}")
    return int(text)


def above_zero(text: str) -> float:
    """A finite number above 0."""
    with contextlib.suppress(ValueError):
        value = float(text)
        if value > 0 and math.isfinite(value):
            return value
    raise argparse.ArgumentTypeError(f"must be a number above 0, found {text!r}")


def share(text: str) -> float:
    """A number above 0, and 1 at most."""
    with contextlib.suppress(ValueError):
        value = float(text)
        if 0 < value <= 1:
            return value
    raise argparse.ArgumentTypeError(f"must be a number above 0 and at most 1, found {text!r}")


def gives(argv: Sequence[str], flag: str) -> bool:
    """Whether a command line holds the flag, with its value in the same word or in the next."""
    return any(word.partition("=")[0] == flag for word in argv)


def split_flags(argv: Sequence[str]) -> list[tuple[str, list[str]]]:
    """An argument list as (flag, its values). Raises `InputError` for a word before the first flag."""
    flags: list[tuple[str, list[str]]] = []
    for word in argv:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            flags.append((flag, [value] if equals else []))
        elif flags:
            flags[-1][1].append(word)
        else:
            raise InputError(f"expected a flag that starts with --, found {word!r}")
    return flags


def _integer(text: str, least: int) -> int:
    with contextlib.suppress(ValueError):
        value = int(text)
        if value >= least:
            return value
    raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, found {text!r}")


def _drop_unread_output() -> bool:
    """Send what is still to be written to nowhere, where its reader has left; whether one has."""
    unread = [stream for stream in (sys.stdout, sys.stderr) if stream is not None and _has_no_reader(stream)]
    for stream in unread:
        _send_nowhere(stream)
    return bool(unread)


def _drop_unwritten_output() -> None:
    """Send nowhere what a full disk does not take."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _send_nowhere(sys.stdout)


def _send_nowhere(stream: IO[str]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())  # else the interpreter complains when it flushes at its end
    os.close(nowhere)


def _has_no_reader(stream: IO[str]) -> bool:
    try:
        descriptor = stream.fileno()
    except OSError:  # a stream in memory
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _one_line(text: str) -> str:
    return " ".join(text.split())
