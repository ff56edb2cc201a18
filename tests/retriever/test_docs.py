"""Every command of docs/retriever.md does what the page says, on a small corpus."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from support.services.http_clients import http_retriever

from data_prep.corpus.__main__ import main as corpus_main
from eval.run import main as evaluate
from retriever import SearchRequest, adopt, check, mcp, plan
from retriever.build.__main__ import main as build_main
from retriever.index.corpus import write_corpus
from retriever.server.__main__ import main as server_main

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "retriever.md").read_text(encoding="utf-8")
COMMANDS = {
    "data_prep.corpus": corpus_main,
    "retriever.plan": plan.main,
    "retriever.build": build_main,
    "retriever.check": check.main,
    "retriever.server": server_main,
    "retriever.adopt": adopt.main,
    "retriever.mcp": mcp.main,
}
SMALL = {"e5-base-v2": "hashing", "IVF4096,SQ8": "IVF4,SQ8", "HNSW32": "HNSW8"}
"""What stands on the page, and what a test can afford."""


def lines() -> list[list[str]]:
    """The command lines of the page's bash blocks, from the module on."""
    blocks = "".join(re.findall(r"```bash\n(.*?)```", DOCS, flags=re.S)).replace("\\\n", " ")
    words = [shlex.split(line) for line in blocks.splitlines() if line.strip()]
    return [each[each.index("-m") + 1 :] for each in words]


def first_of_each() -> dict[str, list[str]]:
    """The flags of the first line of each command, as a test can afford them."""
    found: dict[str, list[str]] = {}
    for module, *flags in lines():
        found.setdefault(module, [SMALL.get(word, word) for word in flags])
    return found


def test_the_page_shows_every_command():
    assert list(first_of_each()) == list(COMMANDS)


@pytest.mark.parametrize("module", COMMANDS)
def test_the_commands_exist_under_the_names_of_the_page(module):
    found = importlib.import_module(module)
    command = found if hasattr(found, "main") else importlib.import_module(f"{module}.__main__")
    assert command.main is COMMANDS[module]


def test_every_flag_of_the_page_is_taken(capsys):
    known: set[str] = set()
    for command in (*COMMANDS.values(), evaluate):
        with pytest.raises(SystemExit):
            command(["--help"])
        known |= set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))
    written = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", DOCS))
    assert len(written) >= 10 and written - known == set()


def test_from_a_dump_to_a_service(tmp_path, monkeypatch, capsys, serve_command):
    monkeypatch.chdir(tmp_path)
    rows = [{"id": str(n), "contents": f'"Page {n}"\nword{n} of page {n}, and more'} for n in range(300)]
    Path("wiki-18.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    offline = first_of_each()
    serving, adopting = offline.pop("retriever.server"), offline.pop("retriever.adopt")
    del offline["retriever.mcp"]  # asked by the official client in test_mcp.py
    for module, flags in offline.items():
        if module == "retriever.plan":
            flags += ["--budget", "0.05"]
        assert COMMANDS[module](flags) == 0, module
    said = capsys.readouterr().out
    assert "300 passages" in said and "recall of exact" in said
    assert found_first(serve_command, serving, "word7") == "7"
    shutil.copy("indexes/wiki18/vectors.faiss", "e5_Flat.index")
    assert adopt.main(adopting) == 0
    again = ["indexes/wiki18_e5" if word == "indexes/wiki18" else word for word in serving]
    assert found_first(serve_command, again, "word7") == "7"


def test_a_file_of_passages_at_once(tmp_path, monkeypatch, passages, serve_command):
    monkeypatch.chdir(tmp_path)
    write_corpus(Path("passages.jsonl"), passages)
    (flags,) = re.findall(r"^Without a dump, `([^`]+)` serves", DOCS, flags=re.M)
    assert found_first(serve_command, flags.split(), "capital of france") == "p3"


def found_first(serve_command, flags: list[str], query: str) -> str:
    async def ask(url: str) -> str:
        async with http_retriever(url, attempts=1) as client:
            return (await client.search(SearchRequest(query, 3)))[0].passage.id

    with serve_command(*flags) as url:
        return asyncio.run(ask(url))
