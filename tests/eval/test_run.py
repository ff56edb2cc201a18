"""The command line of eval.run: what it refuses, and (marked e2e) the real engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes.commands import status_of

from eval.play.contestant import find_contestant
from eval.play.provenance import settings_of
from eval.results.folder import EvaluationFolder
from eval.run import main
from foundation.errors import InputError
from r1_searcher.episode.question import QARow
from r1_searcher.inference.decoding import Decoding
from r1_searcher.inference.policies import EngineModel

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "data_prep" / "tiny" / "model"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def data(tmp_path) -> Path:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"id": "1", "question": "q", "answers": ["a"]}\n')
    return file


def command(questions: Path, out: Path, **changed: str) -> list[str]:
    options = {"recipe": "tiny.stage2", "model": str(MODEL), "data": str(questions), "out": str(out)}
    options |= {"retriever-url": NOBODY, **{name.replace("_", "-"): value for name, value in changed.items()}}
    return [part for name, value in options.items() for part in (f"--{name}", value)]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"recipe": "none"}, "unknown recipe"),
        ({"model": "/nowhere/model"}, "model path not found"),
        ({"data": "/nowhere/data.jsonl"}, "dataset not found"),
        ({}, "retriever does not answer"),
        ({"retriever_url": "127.0.0.1:9"}, "retriever"),
        ({"limit": "0"}, "--limit: must be a whole number of at least 1"),
        ({"max_length": "8"}, "max_length"),
        ({"temperature": "-1"}, "temperature"),
        ({"endpoint": NOBODY}, "--tokenizer"),
        ({"endpoint": "nowhere", "tokenizer": str(MODEL)}, "http://host:port"),
        ({"endpoint": NOBODY, "tokenizer": "/nowhere/tokenizer"}, "not found"),
        ({"note": "corpus"}, "KEY=VALUE"),
        ({"recipe": "deep_researcher"}, "--browse"),
        ({"prompt_file": "/nowhere/prompt.txt"}, "cannot read the prompt file"),
    ],
)
def test_bad_input_is_one_line_and_status_2(changed, complaint, data, tmp_path, capsys):
    assert status_of(main, *command(data, tmp_path / "out", **changed)) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_half_an_emoji_is_one_line_with_file_and_number(data, tmp_path, capsys):
    data.write_text(data.read_text() + '{"id": "x", "question": "Who sang \\ud83d?", "answers": ["x"]}\n')
    lines = len(data.read_text().splitlines())
    assert main(command(data, tmp_path / "out")) == 2 and not (tmp_path / "out").exists()
    error = capsys.readouterr().err
    assert f"{data}, line {lines}: " in error and "half of a surrogate pair" in error and error.count("\n") == 1


def test_two_questions_with_one_id_are_refused(data, tmp_path, capsys):
    data.write_text(2 * data.read_text())
    assert main(command(data, tmp_path / "out")) == 2
    assert "'1'" in capsys.readouterr().err


def test_only_a_closed_book_needs_no_search_service(data, tmp_path, capsys):
    options = [f"--model={MODEL}", f"--data={data}", f"--out={tmp_path / 'out'}"]
    assert main([*options, "--recipe", "tiny.rag"]) == 2
    assert "--search" in capsys.readouterr().err
    endpoint = ["--endpoint", NOBODY, "--tokenizer", str(MODEL)]
    assert main([*options, *endpoint, "--recipe", "tiny.closed_book"]) == 2
    assert "the endpoint" in capsys.readouterr().err  # no search service was missed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("endpoint", "said"), [(NOBODY, "does not answer"), ("https://model.example.org", "socks5 proxy")]
)
def test_a_socks_proxy_is_one_line_where_it_would_be_needed(data, tmp_path, monkeypatch, capsys, endpoint, said):
    """chatchat-space/Langchain-Chatchat #605: the library of the API cannot even be started."""
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    served = ["--endpoint", endpoint, "--model", "m", "--tokenizer", str(MODEL), "--recipe", "tiny.closed_book"]
    assert main([f"--data={data}", f"--out={tmp_path / 'out'}", *served]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_bad_input_needs_no_heavy_library(data, tmp_path):
    code = (
        "import sys; from eval.run import main; "
        f"status = main({command(data, tmp_path / 'out')!r}); "
        "heavy = {'torch', 'vllm', 'transformers'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr


class TestFolder:
    SETTINGS = {"model": "m", "questions": 3}

    def test_a_new_folder_and_the_same_evaluation_are_accepted(self, tmp_path):
        folder = EvaluationFolder(tmp_path / "out")
        folder.check_owner(self.SETTINGS)
        folder.claim(self.SETTINGS)
        folder.predictions_file.write_text("{}\n")
        folder.check_owner(self.SETTINGS)

    def test_another_evaluation_is_refused_naming_what_differs(self, tmp_path):
        folder = EvaluationFolder(tmp_path)
        folder.claim(self.SETTINGS)
        folder.predictions_file.write_text("{}\n")
        with pytest.raises(InputError, match="questions: there 3, here 4"):
            folder.check_owner(self.SETTINGS | {"questions": 4})

    def test_an_evaluation_without_an_answer_may_be_replaced(self, tmp_path):
        folder = EvaluationFolder(tmp_path)
        folder.claim(self.SETTINGS)
        folder.predictions_file.touch()
        folder.check_owner({"model": "other"})

    def test_a_folder_of_something_else_is_refused(self, tmp_path):
        (tmp_path / "thesis.tex").touch()
        with pytest.raises(InputError, match="holds no evaluation"):
            EvaluationFolder(tmp_path).check_owner(self.SETTINGS)
        with pytest.raises(InputError, match="is a file"):
            EvaluationFolder(tmp_path / "thesis.tex").check_owner(self.SETTINGS)


def test_settings_are_json():
    rows = [QARow("1", "q", ("a",))]
    contestant, service = find_contestant("tiny.stage2"), {"index": "bm25", "passages": 3}
    settings = settings_of(contestant, EngineModel("org/model"), rows, [Decoding()], service, {"corpus": "toy"})
    assert json.loads(json.dumps(settings)) == settings
    assert settings["limits"]["top_k"] == 2 and settings["decodings"]["greedy"]["temperature"] == 0.0


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_sixteen_questions_on_the_real_engine(world, retriever_url, tmp_path):
    if not (MODEL / "model.safetensors").is_file() or shutil.which("nvidia-smi"):
        pytest.skip("needs the tiny base model, and a machine without a GPU")
    out, limit = tmp_path / "out", {"limit": "16"}
    options = command(world / "heldout.jsonl", out, retriever_url=retriever_url, **limit) + ["--also-sampled"]

    def run(*extra: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        arguments = [sys.executable, "-m", "eval.run", *options, *extra]
        return subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True)

    done = run()
    assert done.returncode == 0, done.stderr
    scores = json.loads((out / "scores.json").read_text())
    for name in ("greedy", "sampled"):
        assert (scores[name]["n"], scores[name]["retriever_errors"]) == (16, 0)
        assert sum(scores[name]["stop_reasons"].values()) == 16
    assert scores["greedy"]["format_rate"] > 0.8
    assert (
        scores["provenance"]["retriever"]["index"] == "bm25" and scores["provenance"]["retriever"]["passages"] == 1800
    )
    assert "greedy" in done.stdout and "INFO" not in done.stdout + done.stderr and "leaked" not in done.stderr

    predictions = out / "predictions.jsonl"
    lines = predictions.read_text().splitlines(keepends=True)
    predictions.write_text("".join(lines[:20]) + lines[20][:50])  # killed in the midst of the sampled ones
    assert run().returncode == 0
    again = json.loads((out / "scores.json").read_text())
    assert (again["greedy"], again["sampled"]) == (scores["greedy"], scores["sampled"])
    assert "greedy" not in again["provenance"]["seconds"]

    refused = run("--top-k", "1")
    assert refused.returncode == 2 and "another evaluation" in refused.stderr
    assert refused.stderr.count("\n") == 1

    two = tmp_path / "two"
    done = run("--engines", "2", "--out", str(two))
    assert done.returncode == 0, done.stderr
    together = json.loads((two / "scores.json").read_text())
    assert (together["greedy"], together["sampled"]) == (scores["greedy"], scores["sampled"])
