"""The same model in this process and behind vLLM's OpenAI-compatible server (end to end)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes.e2e_stack import wait_until

from eval.run import main
from foundation.chat.endpoint import EndpointConfig, OpenAIEndpoint
from r1_searcher.launch.processes import ProcessSession

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "data_prep" / "tiny" / "model"


def options_of(data: Path, out: Path, **changed: str) -> list[str]:
    options = {"recipe": "tiny.stage2", "model": str(MODEL), "data": str(data), "out": str(out)} | changed
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


@pytest.fixture(scope="module")
def server_url(tmp_path_factory) -> Iterator[str]:
    """The tiny base model behind `r1_searcher.serve`; a signal ends it with status 0."""
    if not (MODEL / "model.safetensors").is_file() or shutil.which("nvidia-smi"):
        pytest.skip("needs the tiny base model, and a machine without a GPU")
    folder = tmp_path_factory.mktemp("server")
    ready, log = folder / "url", folder / "log"
    command = [sys.executable, "-m", "r1_searcher.serve", "--model", MODEL, "--served-model-name", "tiny"]
    command += ["--max-model-len", "384", "--no-enable-chunked-prefill"]
    command += ["--ready-file", ready, "--exit-with-parent", os.getpid()]
    with log.open("wb") as output:
        server = subprocess.Popen(list(map(str, command)), stdout=output, stderr=output, start_new_session=True)
    session = ProcessSession.led_by(server.pid)
    try:
        wait_until(lambda: ready.exists() or server.poll() is not None, 600, "the server")
        assert server.poll() is None, log.read_text()[-3000:]
        yield ready.read_text().strip()
    finally:
        server.terminate()  # it ends vLLM, whose session is another one
        status = server.wait(60)
        session.end()
    assert status == 0


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_a_chat_is_answered(server_url):
    async def ask() -> str:
        endpoint = OpenAIEndpoint(EndpointConfig(server_url))
        answer = await endpoint.chat([{"role": "user", "content": "What ?"}], max_tokens=8, temperature=0.0)
        await endpoint.close()
        return answer.text

    assert isinstance(asyncio.run(ask()), str)


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_a_served_model_answers_as_the_one_in_this_process(world, retriever_url, server_url, tmp_path):
    """Greedy and sampled, to the token; through text, to the answer."""
    common = {"retriever_url": retriever_url, "limit": "100"}
    served = {**common, "model": "tiny", "endpoint": server_url, "tokenizer": str(MODEL)}

    def answers(name: str, options: dict[str, str], *flags: str, field: str) -> dict[tuple[str, str], object]:
        arguments = options_of(world / "heldout.jsonl", tmp_path / name, **options)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        run = [sys.executable, "-m", "eval.run", *arguments, *flags]
        done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines = map(json.loads, (tmp_path / name / "predictions.jsonl").read_text().splitlines())
        return {(line["decoding"], line["row"]["id"]): line[field] for line in lines}

    here = answers("here", common, "--also-sampled", field="ids")
    there = answers("there", served, "--also-sampled", field="ids")
    assert len(here) == 2 * 100
    assert here == there
    text = answers("text", served, "--endpoint-text", field="answer")
    exact = answers("there", served, "--also-sampled", field="answer")  # complete: nothing is asked
    assert text == {key: answer for key, answer in exact.items() if key[0] == "greedy"}
    provenance = json.loads((tmp_path / "text" / "scores.json").read_text())["provenance"]
    assert provenance["policy"] == {"kind": "endpoint", "exchange": "text"}


@pytest.mark.e2e
def test_baselines_of_the_tiny_world(world, retriever_url, server_url, tmp_path):
    served = {"model": "tiny", "endpoint": server_url, "tokenizer": str(MODEL), "limit": "32"}
    scores = {}
    for recipe, extra in (("tiny.closed_book", ()), ("tiny.rag", ("--retriever-url", retriever_url))):
        out = tmp_path / recipe
        options = options_of(world / "heldout.jsonl", out, recipe=recipe, **served)
        assert main([*options, *extra]) == 0
        scores[recipe] = json.loads((out / "scores.json").read_text())
    assert scores["tiny.closed_book"]["greedy"]["searches_per_question"] == 0.0
    assert scores["tiny.closed_book"]["provenance"]["retriever"] is None
    assert scores["tiny.rag"]["greedy"]["searches_per_question"] == 1.0
