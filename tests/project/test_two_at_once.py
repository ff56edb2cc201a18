"""Two processes on one folder: one works, the other says so in one line and touches nothing.

Here every command that works in a folder finds it held (training: `tests/r1_searcher/launch/test_bad_input.py`). Marked
slow, real processes of them are started together, 50 times each.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.models.gguf_model import write_gguf
from support.processes.commands import main_of, status_of
from support.services.fake_endpoint import chat, serve, stream

from foundation.owned_folder import beside, held
from retriever import Passage
from retriever.index.corpus import write_corpus

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "data_prep" / "tiny" / "model"
ROUNDS = int(os.environ.get("ROUNDS", "50"))
PASSAGES = [Passage(str(n), f"title {n % 7}", f"alone{n} word{n % 5} word{n % 3}") for n in range(400)]

Arguments = Callable[[Path, str], list[object]]


def corpus(folder: Path, url: str) -> list[object]:
    write_corpus(folder / "corpus.jsonl", PASSAGES)
    return ["--format", "jsonl", "--input", folder / "corpus.jsonl", "--out", "{out}", "--unit-bytes", "4000",
            "--processes", "1"]  # fmt: skip


def index(*backend: str) -> Arguments:
    def arguments(folder: Path, url: str) -> list[object]:
        write_corpus(folder / "corpus.jsonl", PASSAGES)
        return ["--corpus", folder / "corpus.jsonl", "--backend", *backend, "--out", "{out}"]

    return arguments


def vectors(folder: Path, url: str) -> list[object]:
    """Two indexes that share the folder of their vectors."""
    arguments = index("dense", "--encoder", "hashing")(folder, url)
    return [*arguments[:-1], "{out}.index", "--embeddings", "{out}"]


def adopted(folder: Path, url: str) -> list[object]:
    import faiss

    from retriever.index.encoder import HashingEncoder

    write_corpus(folder / "corpus.jsonl", PASSAGES)
    published = faiss.IndexFlatIP(64)
    published.add(HashingEncoder(64).encode_passages([passage.titled_text for passage in PASSAGES]))
    faiss.write_index(published, str(folder / "published.index"))
    return ["--faiss", folder / "published.index", "--corpus", folder / "corpus.jsonl", "--encoder", "hashing",
            "--out", "{out}"]  # fmt: skip


def questions(folder: Path) -> Path:
    file = folder / "questions.jsonl"
    rows = ({"id": str(n), "question": f"Q{n}?", "answers": ["a"]} for n in range(8))
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def served(folder: Path, url: str) -> list[object]:
    return ["--data", questions(folder), "--endpoint", url, "--model", "m", "--tokenizer", MODEL, "--endpoint-text",
            "--out", "{out}"]  # fmt: skip


def evaluation(folder: Path, url: str) -> list[object]:
    return ["--recipe", "tiny.closed_book", *served(folder, url)]


def selection(folder: Path, url: str) -> list[object]:
    few = ["--k", "1", "--closed-book-k", "1", "--easy-below", "1", "--hard-above", "1", "--stage1", "*:hard=all"]
    search = ["--search", f"replay:{folder / 'searches.jsonl'}"]
    (folder / "searches.jsonl").write_text("")
    return ["--recipe", "tiny.stage2", "--closed-book", "tiny.closed_book", *few, *search, *served(folder, url)]


def judged(folder: Path, url: str) -> list[object]:
    file = folder / "predictions.jsonl"
    rows = ({"question": f"Q{n}?", "answer": "a", "pred_ans": "b"} for n in range(8))
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return [file, "--endpoint", url, "--model", "m", "--cache", "{out}"]


def published_model(folder: Path, url: str) -> list[object]:
    return [write_gguf(folder / "tiny.gguf"), "--out", "{out}", "--no-chat"]


def simulator_data(folder: Path, url: str) -> list[object]:
    return [folder, "--out", "{out}", "--judge", "rule"]


def fine_tuning(folder: Path, url: str) -> list[object]:
    file = folder / "rows.jsonl"
    file.write_text(f"{json.dumps({'input': 'x', 'output': 'y'})}\n" * 200)
    return ["--model", MODEL, "--data", file, "--out", "{out}", "--device", "cpu"]


FOLDERS: dict[str, tuple[str, Arguments]] = {
    "passage store": ("data_prep.corpus", corpus),
    "bm25 index": ("retriever.build", index("bm25")),
    "dense index": ("retriever.build", index("dense", "--encoder", "hashing")),
    "hybrid index": ("retriever.build", index("hybrid", "--encoder", "hashing")),
    "vectors": ("retriever.build", vectors),
    "adopted index": ("retriever.adopt", adopted),
    "evaluation": ("eval.run", evaluation),
    "selection": ("data_prep.select", selection),
    "simulator's data": ("data_prep.simulator_data", simulator_data),
    "fine-tuning": ("r1_searcher.sft", fine_tuning),
}
"""Kind of folder -> (command, its arguments); `{out}` is the folder."""
NEIGHBOURS: dict[str, tuple[str, Arguments]] = {
    "verdicts": ("eval.judge", judged),
    "published model": ("data_prep.pretrained", published_model),
}
"""The same of what appears whole: the lock is beside it."""


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file but those of a second folder that a command works in, which it may begin."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "out.index"]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.mark.parametrize("kind", [*FOLDERS, *NEIGHBOURS])
def test_the_second_process_says_who_works_here_and_touches_nothing(kind, tmp_path, capfd):
    module, arguments = (FOLDERS | NEIGHBOURS)[kind]
    out = tmp_path / "out"
    argv = [str(word).replace("{out}", str(out)) for word in arguments(tmp_path, "http://127.0.0.1:9")]
    with contextlib.ExitStack() as first:
        first.enter_context(held(out) if kind in FOLDERS else beside(out))
        before = content(tmp_path)
        capfd.readouterr()
        assert status_of(main_of(module), *argv) == 2
        assert content(tmp_path) == before
    lines = [line for line in capfd.readouterr().err.splitlines() if "held by" in line]
    assert len(lines) == 1 and f"{out} is held by {os.getpid()} on " in lines[0], lines


def training(folder: Path, url: str) -> list[object]:
    return ["--recipe", "tiny.stage2", "--run-dir", "{out}", "--data", questions(folder), "--search",
            f"replay:{folder / 'searches.jsonl'}", "--device", "cpu", "--actor.model_name_or_path", MODEL,
            "--rollout.batch_size", "8", "--rollout.n_samples_per_prompt", "8", "--train.batch_size", "64",
            "--algo.advantage.estimator", "reinforce_baseline", "--algo.kl.init_coef", "0"]  # fmt: skip


TOGETHER = {**FOLDERS, **NEIGHBOURS, "training": ("r1_searcher.train", training)}


def answers(request, seen: int):
    """What a judge says to a chat, and a policy to a prompt."""
    if "messages" in request:
        return chat("True")
    return stream("<answer> a </answer>")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [kind for kind in TOGETHER if kind != "simulator's data"])  # needs a trained run
def test_two_processes_started_together(kind, tmp_path):
    module, arguments = TOGETHER[kind]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "searches.jsonl").write_text("")
    with serve(answers) as endpoint:
        argv = [str(word) for word in arguments(tmp_path / "in", endpoint.url)]
        program = ROOT / "tests" / "support" / "crashes" / "two_at_once.py"
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, program, str(ROUNDS), module, str(tmp_path), *argv],
            cwd=ROOT, env=environment, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    counted = json.loads(done.stdout.splitlines()[-1])  # some libraries talk, too
    print(kind, counted)
    assert counted["rounds"] == ROUNDS and counted["refused"] >= ROUNDS / 2, "they did not meet"
