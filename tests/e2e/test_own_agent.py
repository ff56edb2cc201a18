"""An agent of the user's on the real stack: trained for two steps, evaluated, and in the report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from support.processes.e2e_stack import check_engine_follows_trainer

from r1_searcher.episode.trajectory import SpanKind
from r1_searcher.episode.trajectory_json import from_mapping

pytestmark = pytest.mark.e2e

VERBATIM = "{% for message in messages %}{{ message.content }}{% endfor %}"
"""The tiny base model knows no chat, only R1-Searcher's exchange: what the agent says is all that it reads."""

AGENT = """
import re

async def agent(question, settings):
    client, messages = settings.openai(), [{"role": "system", "content": f"Question : {question}\\n<think>"}]
    while True:
        reply = await client.chat.completions.create(model="x", messages=messages, stop=["<|end_of_query|>"])
        text = reply.choices[0].message.content
        _, asks, query = text.rpartition("<|begin_of_query|>")
        if not asks or not query.strip() or "</answer>" in query:
            found = re.findall("<answer>(.*?)</answer>", text)
            return found[-1] if found else None
        lines = [f"({n}) {p.text}\\n" for n, p in enumerate(await settings.search(query), start=1)]
        block = "".join(lines) or "None"
        documents = f"\\n\\n<|begin_of_documents|>\\n{block}<|end_of_documents|>\\n\\n"
        messages += [{"role": "assistant", "content": text}, {"role": "system", "content": documents}]
"""


@pytest.fixture
def verbatim_model(model, tmp_path):
    from transformers import AutoTokenizer

    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = VERBATIM
    tokenizer.save_pretrained(folder)
    return folder


def test_an_agent_of_ones_own_is_trained_and_evaluated(training, world, retriever, verbatim_model, tmp_path):
    file = tmp_path / "agent.py"
    file.write_text(AGENT)
    own = ("--agent", f"{file}:agent", "--max-steps", "2")
    model = ("--actor.model_name_or_path", str(verbatim_model))
    run = training(2, world / "stage2.jsonl", retriever.url, *model, options=own)
    assert run.finish() == 0, run.console[-2000:]

    episodes = [from_mapping(line) for attempt in run.attempts().values() for line in attempt]
    assert len(episodes) == 2 * 64
    for episode in episodes:
        assert [span.start for span in episode.spans] == [0, *(span.end for span in episode.spans[:-1])]
        assert episode.spans[0].text == f"Question : {episode.row.question}\n<think>"
        blocks = episode.of_kind(SpanKind.DOCUMENTS)
        assert len(blocks) <= len(episode.searches)
        assert all(block.text.startswith("\n\n<|begin_of_documents|>\n(1) ") for block in blocks)
    assert sum(episode.n_searches for episode in episodes) > 5
    assert not [episode.error for episode in episodes if episode.failed]
    check_engine_follows_trainer(run.metrics())  # log-probs of the very ids, in the very places
    assert [line["stop/agent_error"] for line in run.metrics()] == [0.0, 0.0]

    out = tmp_path / "evaluation"
    command = [sys.executable, "-m", "eval.run", "--like", run.run_dir, "--model", run.run_dir / "model"]
    command += ["--data", world / "stage2.jsonl", "--limit", "8", "--search", retriever.url, "--out", out]
    subprocess.run([str(word) for word in command], check=True)
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 8 and all(line["spans"][0][3].startswith("Question : ") for line in lines)
    assert json.loads((out / "evaluation.json").read_text())["recipe"]["agent"]["where"] == f"{file}:agent"
    report = [sys.executable, "-m", "eval.report", str(run.run_dir), "--out", str(tmp_path / "report.html")]
    told = subprocess.run(report, check=True, capture_output=True, text=True).stdout
    assert "report.html: 128 episodes" in told and (tmp_path / "report.html").is_file()
