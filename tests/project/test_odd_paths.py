"""Folders with names that some program somewhere reads as more than a name: every file and folder of a user may be
called so, and so may HOME and TMPDIR. Where OpenRLHF cannot take one, a line says so before anything is started."""

from __future__ import annotations

import json
import shlex
import tempfile
from pathlib import Path

import pytest
from support.models.gguf_model import write_gguf
from support.processes.commands import main_of, status_of
from support.services.fake_endpoint import chat, serve

from foundation.cli import BAD_INPUT

NAMES = {
    "brackets": " runs [1] (copy) {x}, a;b ",
    "letters": 'Übung 東京 it\'s "here" & `there`',
    "long": "x" * 200,
    "patterns": "*?.jsonl.gz",
    "an address": "http:%2F#a@b=1 $HOME ~",
    "a flag": "--out",
}
ODD_FOR_THE_HOST = ("brackets", "patterns", "an address")
"""Those that OpenRLHF or datasets would split or expand."""
PASSAGES = [
    {"id": "7", "title": "1984 Summer Olympics", "text": "The games were held in Los Angeles."},
    {"id": "8", "title": "Paris", "text": "Paris is the capital of France."},
]
QUESTIONS = [{"id": "1", "question": "What is the capital of France?", "answers": ["Paris"], "titles": ["Paris"]}]
OTHERS = [{"id": "2", "question": "Who drew the tower of Aldmere?", "answers": ["Finch"]}]
PREDICTIONS = [{"question": "What is the capital of France?", "answer": "Paris", "pred_ans": "Paris"}]


@pytest.fixture
def place(request, tmp_path, monkeypatch) -> Path:
    """A folder of such a name, which is HOME, TMPDIR and the folder that the command runs in, too."""
    folder = tmp_path / NAMES[request.param]
    folder.mkdir()
    for name, rows in {"c": PASSAGES, "q": QUESTIONS, "t": OTHERS, "p": PREDICTIONS}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(folder)
    return folder


def run(command: str, *words: object) -> None:
    assert status_of(main_of(command), *words) == 0, command


every_name = pytest.mark.parametrize("place", NAMES, indirect=True)


@every_name
def test_data_corpus_and_indexes(place):
    run("data_prep.questions", "--dataset", "nq", "--input", place / "q.jsonl", "--out", place / "o.jsonl")
    sets = ("--train", place / "q.jsonl", "--test", place / "t.jsonl")
    run("data_prep.decontaminate", *sets, "--out", place / "d.jsonl")
    run("data_prep.corpus", "--input", place / "c.jsonl", "--out", place / "store")
    for backend, encoder in (("bm25", ()), ("dense", ("--encoder", "hashing")), ("hybrid", ("--encoder", "hashing"))):
        index = place / backend
        run("retriever.build", "--corpus", place / "store", "--backend", backend, *encoder, "--out", index)
        found = place / "check.json"
        run("retriever.check", "--index", index, "--queries", place / "q.jsonl", "--k", 1, "--json", found)
        assert json.loads(found.read_text())["recall_of_gold"] == 1.0
    faiss = place / "published.index"
    faiss.write_bytes(next((place / "dense").glob("*.faiss")).read_bytes())
    adopted = ("--faiss", faiss, "--corpus", place / "store", "--encoder", "hashing", "--out", place / "adopted")
    run("retriever.adopt", *adopted)


@pytest.mark.parametrize("place", ["brackets", "letters", "patterns", "an address"], indirect=True)
def test_predictions_verdicts_and_reports(place):
    predictions = place / "p.jsonl"
    run("eval.score", predictions, "--json", place / "s.json")
    run("eval.compare", predictions, predictions, "--json", place / "x.json")
    with serve(lambda request, seen: chat("True")) as judge:
        run("eval.judge", predictions, "--endpoint", judge.url, "--model", "m", "--cache", place / "v.jsonl")
    run("data_prep.tiny_world", "--out", place / "world", "--stage1", 2, "--stage2", 2, "--heldout", 2)
    assert (place / "world" / "corpus.jsonl").is_file() and (place / "v.jsonl").is_file()


@pytest.fixture(scope="module")
def gguf(tmp_path_factory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf").read_bytes()


@pytest.mark.parametrize("place", ["brackets", "letters"], indirect=True)
def test_models(place, gguf, capsys):
    (place / "tiny.gguf").write_bytes(gguf)
    run("data_prep.pretrained", place / "tiny.gguf", "--out", place / "model", "--no-chat")
    run("data_prep.add_tags", place / "model", "--protocol", "r1_searcher.chat", "--out", place / "tagged")
    for model in ("model", "tagged"):
        model_flag = ("--actor.model_name_or_path", place / model)
        words = ("--recipe", "small.stage2", "--data", place / "q.jsonl", "--search", "http://127.0.0.1:9")
        run("r1_searcher.train", *words, *model_flag, "--run-dir", place.parent / "run", "--device", "cpu", "--dry-run")
    assert str(place / "tagged") in shlex.split(capsys.readouterr().out)


@every_name
def test_what_the_host_reads_itself(place, request, capsys):
    """Its parser takes data apart at commas, and its library expands patterns."""
    rows = place / "rows.jsonl"
    rows.write_text('{"input": "a", "output": "b"}\n' * 200)
    odd = request.node.callspec.params["place"] in ODD_FOR_THE_HOST
    words = ("--model", "m", "--data", rows, "--out", place / "out", "--device", "cpu", "--dry-run")
    assert status_of(main_of("r1_searcher.sft"), *words) == (BAD_INPUT if odd else 0)
    said = capsys.readouterr().err
    assert ("--data must not contain" in said and said.count("\n") == 1) == odd
    if odd:
        for command, more in (("eval.real_run", ("--data", place)), ("eval.quickstart", ())):
            for name in ("passages", "train", "dev", "transcripts"):
                (place / f"{name}.jsonl").touch()
            assert status_of(main_of(command), "--out", place / "out", *more) == BAD_INPUT
            said = capsys.readouterr().err
            assert "--out must not contain" in said and said.count("\n") == 1 and not (place / "out").exists()
