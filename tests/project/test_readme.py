"""Every command of the README and the docs names things that exist and flags that are taken."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from support.processes.commands import help_of

from r1_searcher.host.flags import trainer_parser

REPO = Path(__file__).resolve().parents[2]
PAGES = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").rglob("*.md"))]
PYTHON = ("python", ".venv/bin/python")
OURS = {"--preset", "--seed", "--out", "--small", "--quick", "--fast", "--dev"}
"""Flags that scripts take themselves."""
OF_THE_HOST = {option for action in trainer_parser()._actions for option in action.option_strings}
"""OpenRLHF's own, which the training command passes on."""


def commands(page: Path) -> list[str]:
    """The command lines of a page's bash blocks, and the inline ones that start with python."""
    text = page.read_text(encoding="utf-8")
    found: list[str] = []
    for block in re.findall(r"```bash\n(.*?)```", text, flags=re.S):
        joined = block.replace("\\\n", " ")
        found += [" ".join(line.split(" #")[0].split()) for line in joined.splitlines() if line.strip()]
    return found + [" ".join(inline.split()) for inline in re.findall(r"`((?:\.venv/bin/)?python -m [^`]+)`", text)]


def words_of(command: str) -> list[str]:
    """Without the variables that are set before it."""
    return [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\S+", word)]


ON_PAGES = {
    (command, page.name)
    for page in PAGES
    for command in commands(page)
    if words_of(command)[:1] == ["bash"] or (words_of(command)[0] in PYTHON and words_of(command)[1] == "-m")
}


def test_the_pages_have_commands():
    assert len(commands(PAGES[0])) >= 10
    assert all(words_of(command)[:1] == ["bash"] or command.startswith(".venv/") for command in commands(PAGES[0]))
    modules = {words_of(command)[2] for command, _ in ON_PAGES if not command.startswith("bash ") and "-m" in command}
    assert len(ON_PAGES) >= 40 and len(modules) >= 15, "the patterns above find what the pages write"


@pytest.mark.parametrize(("command", "page"), sorted(ON_PAGES))
def test_a_command_names_a_script_or_module_that_exists(command, page):
    words = words_of(command)
    if words[0] == "bash":
        assert (REPO / words[1]).is_file(), f"{page}: {command}"
        check_script_flags(words[2:])
    else:
        check_module_flags(words[2], words[3:])


def check_script_flags(words: list[str]) -> None:
    for flag in (word for word in words if word.startswith("--")):
        assert flag in OURS or flag in OF_THE_HOST or names(help_of("r1_searcher.train"), flag), flag


def check_module_flags(module: str, words: list[str]) -> None:
    passed_on = OF_THE_HOST if module in ("r1_searcher.train", "r1_searcher.doctor") else set()
    text = help_of(module)
    for flag in (word for word in words if word.startswith("--")):
        assert flag in passed_on or names(text, flag), f"{module} does not take {flag}"


def names(text: str, flag: str) -> bool:
    """Whether a help text lists the flag itself, not a longer one."""
    return re.search(rf"{re.escape(flag.partition('=')[0])}(?![\w-])", text) is not None
