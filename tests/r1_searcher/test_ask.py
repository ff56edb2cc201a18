"""Asking in a terminal: what is written, in which colours, and how a turn and a conversation end."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.episodes.asked_agents import FOUND, FakePolicies
from support.episodes.fakes import FakeRetriever, say, tag_tokenizer
from support.processes.commands import status_of

from r1_searcher import ask
from r1_searcher.inference.sources import SearchSources
from retriever.errors import RetrieverUnavailable

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "data_prep" / "tiny" / "model"
NOBODY = "http://127.0.0.1:9"


class FakeModel:
    """A model that needs neither engine nor tokenizer of its own."""

    def __init__(self, policies: FakePolicies) -> None:
        self.policies_ = policies

    def check(self):
        pass

    def load_tokenizer(self):
        return tag_tokenizer()

    @asynccontextmanager
    async def policies(self, recipe, row, tokenizer, console):
        os.write(1, b"an engine starts\n")
        yield self.policies_


class FakeSources(SearchSources):
    """A search that needs no service."""

    result = FOUND

    def facts(self):
        return None

    def open(self):
        return FakeRetriever([self.result]), {}


@pytest.fixture
def policies(monkeypatch, tmp_path) -> FakePolicies:
    """What every question is answered with."""
    found = FakePolicies()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(ask, "model_of", lambda options: FakeModel(found))
    monkeypatch.setattr(ask, "sources_of", lambda options, recipe: FakeSources("fake"))
    return found


OPTIONS = ["--model", "m", "--recipe", "tiny.stage2"]


def test_one_question(policies, capfd):
    assert ask.main([*OPTIONS, "Where is the tower?"]) == 0
    out = capfd.readouterr().out
    assert out.startswith("Hm. <|begin_of_query|>tower<|end_of_query|>\n\n<|begin_of_documents|>\n(1) is in Paris\n")
    last, remark = out.rstrip().splitlines()[-2:]
    assert last == "Answer: Paris" and remark.startswith("1 search, ")
    assert "\x1b" not in out and "engine" not in out


def test_json_is_the_trajectory(policies, capfd, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Where?\n\nWho?\n"))
    assert ask.main([*OPTIONS, "--json", "--temperature", "0.5"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["row"]["question"] for line in lines] == ["Where?", "Who?"]
    assert {line["answer"] for line in lines} == {"Paris"} and lines[0]["ids"]
    assert {decoding.temperature for decoding in policies.decodings} == {0.5}


def test_a_failed_search_is_one_line(policies, capfd, monkeypatch):
    monkeypatch.setattr(FakeSources, "result", RetrieverUnavailable("nobody listens"))
    assert ask.main([*OPTIONS, "Where?"]) == 3
    captured = capfd.readouterr()
    assert "nobody listens" in captured.err and captured.err.count("\n") == 1
    assert "No answer: the search failed" in captured.out


def test_of_questions_that_nobody_types_each_failure_is_a_line_and_the_status_says_that_there_was_one(
    policies, capfd, monkeypatch
):
    assert ask.main([*OPTIONS, " "]) == 2
    assert "empty" in capfd.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 9000 + "\nWho?\n"))
    assert ask.main(OPTIONS) == 3
    captured = capfd.readouterr()
    first, last = captured.err.splitlines()
    assert "tokens" in first and "1 of 2 questions failed" in last and "Answer: Paris" in captured.out

    monkeypatch.setattr(FakeSources, "result", RetrieverUnavailable("nobody listens"))
    monkeypatch.setattr("sys.stdin", io.StringIO("Where?\nWho?\n"))
    assert ask.main([*OPTIONS, "--json"]) == 3
    captured = capfd.readouterr()
    assert len(captured.out.splitlines()) == 2
    assert ["nobody listens" in line for line in captured.err.splitlines()] == [True, True, False]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--model", str(MODEL), "Who?"], "give --recipe"),
        (["--model", str(MODEL), "--recipe", "tiny.stage2", "Who?"], "give --search"),
        (["--model", str(MODEL), "--recipe", "tiny.stage2", "--search", NOBODY, "Who?"], "does not answer"),
        (["--model", "/nowhere", "--recipe", "tiny.stage2", "--search", NOBODY], "not found"),
        (["--model", "m", "--recipe", "tiny.stage2", "--search", NOBODY, "--endpoint", NOBODY], "--tokenizer"),
        (["--model", "m", "--recipe", "none"], "unknown recipe"),
    ],
)
def test_bad_input_is_one_line_and_status_2(options, complaint, capsys):
    assert status_of(ask.main, *options) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1


def test_nothing_that_a_terminal_obeys_is_written(policies, capfd):
    policies.turns = [say("\x1b]0;title\x07Paris\u202e")]
    assert ask.main([*OPTIONS, "Where?"]) == 0
    assert "\x1b" not in (out := capfd.readouterr().out) and "\u202e" not in out and "Paris" in out


class TestTerminal:
    """A person at a real terminal, in a process of its own: colours, Ctrl-C, history."""

    PROGRAM = (
        "import sys; sys.path[:0] = [{root!r}, {tests!r}]; import importlib.util as u; "
        "spec = u.spec_from_file_location('child', {here!r}); child = u.module_from_spec(spec); "
        "spec.loader.exec_module(child); ask = child.ask; found = child.FakePolicies(pause_s=0.05); "
        "ask.model_of = lambda options: child.FakeModel(found); "
        "ask.sources_of = lambda options, recipe: child.FakeSources('fake'); "
        "sys.exit(ask.main({options!r}))"
    )

    def talk(self, folder: Path, *steps: tuple[str, str], **environment: str) -> tuple[int, str]:
        """(exit status, all that was shown): each step waits for a text and then types one."""
        program = self.PROGRAM.format(root=str(ROOT), tests=str(ROOT / "tests"), here=__file__, options=OPTIONS)
        master, slave = pty.openpty()
        env = {**os.environ, "XDG_STATE_HOME": str(folder), "TERM": "xterm", **environment}
        env.pop("NO_COLOR", None) if "NO_COLOR" not in environment else None
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        shown = bytearray()

        def read() -> None:
            try:
                while piece := os.read(master, 4096):
                    shown.extend(piece)
            except OSError:
                return

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        seen = 0
        for text, typed in steps:
            deadline = time.monotonic() + 60
            while (place := shown.find(text.encode(), seen)) < 0:
                assert process.poll() is None and time.monotonic() < deadline, bytes(shown)
                time.sleep(0.02)
            seen = place + len(text)
            os.write(master, typed.encode())
        status = process.wait(60)
        reader.join(5)
        os.close(master)
        return status, shown.decode("utf-8", "replace")

    @pytest.mark.slow
    def test_ctrl_c_ends_a_turn_and_ctrl_d_the_conversation(self, tmp_path):
        steps = [
            ("? ", "Where is it?\n"),
            ("\x1b[94m", "\x03"),
            ("? ", "Who?\n"),
            ("Answer: Paris", ""),
            ("? ", "\x04"),
        ]
        status, shown = self.talk(tmp_path, *steps)
        assert status == 0
        assert "interrupted" in shown and shown.count("Answer: Paris") == 1
        assert "\x1b[33m" in shown and "an engine starts" not in shown
        assert (tmp_path / "r1_searcher" / "ask_history").read_text().splitlines()[-2:] == ["Where is it?", "Who?"]

    @pytest.mark.slow
    def test_no_color(self, tmp_path):
        steps = [("? ", "Who?\n"), ("Answer: Paris", ""), ("? ", "\x03"), ("? ", "\x04")]
        status, shown = self.talk(tmp_path, *steps, NO_COLOR="1")
        assert status == 0 and "\x1b[94m" not in shown and "\x1b[33m" not in shown
