"""Secrets leave command lines, come back where a connection is made, and never stand in a message."""

from __future__ import annotations

import os
import sys

import pytest

from foundation import cli, secrets
from foundation.cli import OneLineParser
from foundation.http import describe, error_text, printable

FLAGS = {"--key": "SOME_API_KEY"}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in (secrets.CREDENTIALS_VARIABLE, "SOME_API_KEY"):
        monkeypatch.setenv(name, "")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--key", "SECRET-1", "--other"], ["--key", "from-environment", "--other"]),
        (["--key=SECRET-1"], ["--key=from-environment"]),
    ],
)
def test_the_value_of_a_secret_flag_moves_to_the_environment(words, shown):
    assert secrets.hide(words, FLAGS) == shown
    assert os.environ["SOME_API_KEY"] == "SECRET-1"
    assert secrets.hide(shown, FLAGS) == shown and os.environ["SOME_API_KEY"] == "SECRET-1"


def test_a_flag_without_its_value_is_left_to_the_parser():
    assert secrets.hide(["--key", "--other"], FLAGS) == ["--key", "--other"]


@pytest.mark.parametrize(
    ("word", "shown", "address"),
    [
        ("http://me:p%40ss@h:1/x", "http://h:1/x", "http://me:p%40ss@h:1/x"),
        ("record:f.jsonl|http://me:pw@h", "record:f.jsonl|http://h", "http://me:pw@h"),
        ("http://a:1,http://me:pw@b:2", "http://a:1,http://b:2", "http://me:pw@b:2"),
        ("pages:?summary=http://me:pw@h/v1&part=3", "pages:?summary=http://h/v1&part=3", "http://me:pw@h/v1"),
        ("--search=http://me:pw@[::1]:8/a", "--search=http://[::1]:8/a", "http://me:pw@[::1]:8/a"),
    ],
)
def test_credentials_leave_an_address_and_come_back_for_the_connection(word, shown, address):
    assert secrets.hide([word]) == [shown]
    plain = secrets.hide([address])[0]
    assert secrets.with_credentials(plain) == address


def test_other_addresses_are_left_alone():
    secrets.hide(["http://me:pw@h:1"])
    for url in ("http://h:2", "http://g:1/a@b", "you@example.com", "http://["):
        assert secrets.hide([url]) == [url] and secrets.with_credentials(url) == url


def test_which_variables_are_secret():
    for name in (
        "WANDB_API_KEY",
        "HF_TOKEN",
        "MILVUS_TOKEN",
        "X_SECRET",
        "DB_PASSWORD",
        "APIKEY",
        "OPENAI_API_KEYS",
        "DB_PASSWORDS",
    ):
        assert secrets.is_secret(name, "x"), name
    for name in (
        "TOKENIZERS_PARALLELISM",
        "NCCL_DEBUG",
        "PATH",
        "HF_TOKEN_PATH",
        "KEYBOARD",
        secrets.CONSENT_VARIABLE,
        secrets.KEYS_VARIABLE,
    ):
        assert not secrets.is_secret(name, "x"), name
    assert secrets.is_secret("HTTPS_PROXY", "http://me:pw@proxy:3128")
    assert not secrets.is_secret("HTTPS_PROXY", "http://proxy:3128")


def test_a_message_shows_neither_a_key_nor_a_whole_address(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "canary-key-1")
    secrets.hide(["http://me:canary-word@h"])
    said = ValueError("http://h:99999\\x/?q=1&api_key=other: canary-key-1\nand canary-word")
    assert describe(said) == "ValueError: http://h:99999\\x/ *** and ***"
    assert error_text(b'{"error": "invalid key canary-key-1"}') == "invalid key ***"
    monkeypatch.setenv("SOME_API_KEY", "1")  # too short to be told from other text
    assert printable("1 of 10") == "1 of 10"


def parser() -> OneLineParser:
    made = OneLineParser(prog="p", secret_flags=FLAGS)
    made.add_argument("--key")
    made.add_argument("--search")
    return made


def test_a_parser_sees_no_secrets():
    options = parser().parse_args(["--key", "SECRET-1", "--search", "http://me:pw@h"])
    assert (options.key, options.search) == ("from-environment", "http://h")


def test_a_process_started_with_a_secret_becomes_one_without(monkeypatch):
    """Everybody on the machine can read a command line."""
    started: list[list[str]] = []

    class Replaced(Exception):
        pass

    def execv(_: str, words: list[str]) -> None:
        started.append(words)
        raise Replaced

    monkeypatch.setattr(cli.os, "execv", execv)
    monkeypatch.setattr(sys, "argv", ["p", "--key", "SECRET-1"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "p", "--key", "SECRET-1"])
    with pytest.raises(Replaced):
        parser().parse_args()
    assert started == [["python", "-m", "p", "--key", "from-environment"]]
    monkeypatch.setattr(sys, "argv", ["p", "--key", "from-environment"])
    assert parser().parse_args().key == "from-environment" and len(started) == 1
