"""Every command of the README names things that exist and flags that are taken."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from r1_searcher.host.flags import trainer_parser

REPO = Path(__file__).resolve().parents[2]
README = (REPO / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """The command lines of the README's bash blocks, and the inline ones that start with python."""
    found: list[str] = []
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.S):
        joined = block.replace("\\\n", " ")
        found += [line.split(" #")[0].strip() for line in joined.splitlines() if line.strip()]
    return found + [" ".join(inline.split()) for inline in re.findall(r"`(\.venv/bin/python -m [^`]+)`", README)]


def test_the_readme_has_commands():
    assert len(commands()) >= 10


@pytest.mark.parametrize("command", commands())
def test_a_command_names_a_script_or_module_that_exists(command):
    words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\S+", word)]
    if words[0] == "bash":
        assert (REPO / words[1]).is_file(), command
        check_script_flags(words[2:])
    else:
        assert words[:2] == [".venv/bin/python", "-m"], command
        check_module_flags(words[2], words[3:])


def check_script_flags(words: list[str]) -> None:
    ours = {"--preset", "--seed", "--out", "--small", "--fast", "--dev"}
    taken = {option for action in trainer_parser()._actions for option in action.option_strings}
    text = help_of("r1_searcher.train")
    for flag in (word for word in words if word.startswith("--")):
        assert flag in ours or flag in taken or re.search(rf"{flag}\b", text), flag


def check_module_flags(module: str, words: list[str]) -> None:
    text = help_of(module)
    for flag in (word for word in words if word.startswith("--")):
        assert re.search(rf"{flag}\b", text), f"{module} does not take {flag}"


def help_of(module: str) -> str:
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!https?:)[^)#]+)\)", README))
def test_a_link_leads_to_a_file(link):
    assert (REPO / link).is_file()
