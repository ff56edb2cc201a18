"""An agent of the user's on the real stack: trained for two steps, evaluated, and in the report.

Its rewards come from a reward server (`test_two_actors` has them from a `reward_func` file), and keys, tokens and
passwords are given in every supported way.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from support.hostile.canaries import MARK, VARIABLES, WANDB_KEY, command_lines_with, files_with, with_password
from support.processes.e2e_stack import check_engine_follows_trainer, check_rewards_are_the_recipes, wait_until

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


@pytest.fixture
def reward_server(tmp_path):
    ready = tmp_path / "reward.url"
    names = ["--reward", "r1_searcher.stage2", "--protocol", "r1_searcher.tiny"]
    process = subprocess.Popen(
        [sys.executable, "-m", "r1_searcher.reward_server", *names, "--port", "0", "--ready-file", str(ready)],
        stderr=subprocess.DEVNULL,
    )
    wait_until(ready.is_file, 60, "the reward server")
    yield ready.read_text().strip()
    process.terminate()
    assert process.wait(20) == 0


@pytest.fixture
def secrets(monkeypatch, tmp_path, short_folder):
    """Variables with secrets; everything that a run writes is in two folders."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", str(short_folder))  # its session folder, with the logs that everybody can read
    return tmp_path, short_folder


def test_an_agent_of_ones_own_is_trained_and_evaluated(
    training, world, retriever, verbatim_model, reward_server, secrets, tmp_path
):
    file = tmp_path / "agent.py"
    file.write_text(AGENT)
    own = ("--agent", f"{file}:agent", "--max-steps", "2")
    own += ("--reward-url", with_password(f"{reward_server}/get_reward", "reward"))
    flags = ("--actor.model_name_or_path", str(verbatim_model), "--logger.wandb.key", WANDB_KEY)
    run = training(2, world / "stage2.jsonl", with_password(retriever.url, "retriever"), *flags, options=own)
    status, seen = run.finish_watched(lambda: command_lines_with(MARK))
    assert status == 0, run.console[-2000:]
    check_secrets_stand_nowhere(seen, *secrets)
    check_every_worker_has_a_part(secrets[1])

    lines = [line for attempt in run.attempts().values() for line in attempt]
    check_rewards_are_the_recipes(lines, "tiny.stage2")
    check_what_was_played(list(map(from_mapping, lines)), run.metrics())
    check_it_is_evaluated_and_reported(run.run_dir, world / "stage2.jsonl", retriever.url, f"{file}:agent")


def check_secrets_stand_nowhere(command_lines, folder, ray_folder) -> None:
    """In no file, no output and no command line."""
    assert not command_lines
    assert list(folder.glob("wandb/offline-run-*/run-*.wandb")), "wandb has logged nothing"
    assert list(ray_folder.glob("ray/session_*/logs/*.log")), "Ray has logged nothing"
    assert not files_with([MARK], folder, ray_folder)


def check_every_worker_has_a_part(ray_folder) -> None:
    """Ray names a worker's log after its job; those that it starts ahead of any have none."""
    workers = [path.name for path in ray_folder.glob("ray/session_*/logs/worker-*.out")]
    assert workers and not [name for name in workers if "-ffffffff-" in name]


def check_what_was_played(episodes, metrics) -> None:
    """Both steps: the agent's own prompts and documents, in the very places where the engine wrote between them."""
    assert len(episodes) == 2 * 64
    for episode in episodes:
        assert [span.start for span in episode.spans] == [0, *(span.end for span in episode.spans[:-1])]
        assert episode.spans[0].text == f"Question : {episode.row.question}\n<think>"
        blocks = episode.of_kind(SpanKind.DOCUMENTS)
        assert len(blocks) <= len(episode.searches)
        assert all(block.text.startswith("\n\n<|begin_of_documents|>\n(1) ") for block in blocks)
    assert sum(episode.n_searches for episode in episodes) > 5
    assert not [episode.error for episode in episodes if episode.failed]
    check_engine_follows_trainer(metrics)  # log-probs of the very ids
    assert [line["stop/agent_error"] for line in metrics] == [0.0, 0.0]
    for line in metrics:
        parts = [value for name, value in line.items() if name.startswith("reward/")]
        assert parts and line["reward"] == pytest.approx(sum(parts), abs=1e-3)  # handed over on a grid of 1/1024


def check_it_is_evaluated_and_reported(run_dir, data, search, agent) -> None:
    out, page = run_dir.parent / "evaluation", run_dir.parent / "report.html"
    command = [sys.executable, "-m", "eval.run", "--like", run_dir, "--model", run_dir / "model"]
    command += ["--data", data, "--limit", "8", "--search", search, "--out", out]
    subprocess.run([str(word) for word in command], check=True)
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 8 and all(line["spans"][0][3].startswith("Question : ") for line in lines)
    assert json.loads((out / "evaluation.json").read_text())["recipe"]["agent"]["where"] == agent
    report = [sys.executable, "-m", "eval.report", str(run_dir), "--out", str(page)]
    told = subprocess.run(report, check=True, capture_output=True, text=True).stdout
    assert "report.html: 128 episodes" in told and page.is_file()
