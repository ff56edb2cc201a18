"""Secrets that are easy to find again: given in every supported way, and searched for everywhere afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

MARK = f"canary{os.environ.get('PYTEST_XDIST_WORKER', '')}"
"""Stands in every secret below, and in nothing else that a run writes; tests side by side have one each."""
WANDB_KEY = MARK.ljust(40, "0")  # Weights & Biases takes keys of 40 characters only
VARIABLES = {
    **{name: f"{MARK}-{name.lower()}" for name in ("OPENAI_API_KEY", "SERPER_API_KEY", "SERPAPI_API_KEY")},
    **{name: f"{MARK}-{name.lower()}" for name in ("TAVILY_API_KEY", "RETRIEVER_TOKEN", "REWARD_TOKEN")},
    **{name: f"{MARK}-{name.lower()}" for name in ("MILVUS_TOKEN", "HF_TOKEN", "AGENT_TOKEN")},
    "WANDB_API_KEY": WANDB_KEY,
    "NO_PROXY": f"http://me:{MARK}-proxy@localhost,127.0.0.1",
}


def with_password(url: str, word: str) -> str:
    """The address with a user name and a password in it."""
    return url.replace("://", f"://me:{MARK}-{word}@")


def files_with(marks: Iterable[str], *folders: Path) -> list[str]:
    """Files below the folders that hold one of the marks."""
    wanted = [mark.encode() for mark in marks]
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [str(path) for path in files if any(mark in path.read_bytes() for mark in wanted)]


def command_lines_with(mark: str) -> Iterator[str]:
    """Command lines of this machine's processes that hold the mark."""
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if any(mark in word for word in words):
            yield " ".join(words)
