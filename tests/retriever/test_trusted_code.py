"""Encoders that bring Python code of their own: every command that takes an encoder runs it when asked, else refuses.

huggingface/sentence-transformers #2272, run-llama/llama_index #17131, embeddings-benchmark/mteb #1693.
"""

from __future__ import annotations

import contextlib
import json

import pytest
from support.processes.commands import main_of, status_of

from retriever.index.encoder import HashingEncoder

FLAG = "--trust-remote-code"


class BringsCode(HashingEncoder):
    """As the library treats such a model: without the flag it is not loaded."""

    def __init__(self, spec, *, name, trust_remote_code, **_):
        if not trust_remote_code:
            raise ValueError(f"{spec.model} brings code of its own, which is not run unasked")
        super().__init__(64)
        self.facts = {**self.facts, "encoder": name}

    on_every_gpu, is_shared = contextlib.nullcontext, False


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr("retriever.index.encoder.SentenceTransformerEncoder", BringsCode)
    (tmp_path / "weights").mkdir()
    rows = [{"id": str(n), "title": f"t{n}", "text": f"a text about number{n}"} for n in range(8)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def asked(place, command: str, *words: object) -> int:
    encoder = ("--encoder", "mine") if command != "retriever.check" else ()
    return status_of(main_of(command), *words, *encoder, "--encoder-path", place / "weights")


def test_commands_that_read_and_write_indexes(place, capsys):
    corpus, index = ("--corpus", place / "c.jsonl"), place / "index"
    faiss = ("--faiss", index / "vectors.faiss")
    commands = {
        "retriever.build": (*corpus, "--backend", "dense", "--out", index),
        "retriever.check": ("--index", index),
        "retriever.adopt": (*faiss, *corpus, "--out", place / "adopted"),
        "retriever.plan": (*corpus, "--index", "Flat"),
    }
    for command, words in commands.items():
        assert asked(place, command, *words) == 2, command
        said = capsys.readouterr().err.splitlines()
        assert "not run unasked" in said[-1] and not any("Traceback" in line for line in said)
        assert asked(place, command, *words, FLAG) == 0, command


def test_the_server(place, serve_command, capsys):
    corpus, weights = ("--corpus", place / "c.jsonl"), ("--encoder-path", place / "weights")
    built = ("--backend", "dense", "--encoder", "mine")
    assert status_of(main_of("retriever.build"), *corpus, *built, *weights, "--out", place / "index", FLAG) == 0
    capsys.readouterr()
    for words in (("--index", place / "index", *weights), (*corpus, *built, *weights)):
        assert status_of(main_of("retriever.server"), *words, "--port", 0) == 2
        assert "not run unasked" in capsys.readouterr().err
        with serve_command(*words, FLAG) as url:
            assert url.startswith("http://127.0.0.1")
