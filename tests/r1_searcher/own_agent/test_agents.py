"""What an agent may be: a plain function, a program in any language, and what cannot be started."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from dataclasses import replace

import pytest
from support.episodes.fakes import (
    ROW,
    ScriptedPolicy,
)
from support.episodes.tool_agents import EXAMPLE, here

from foundation.errors import InputError
from r1_searcher.episode.trajectory import StopReason
from r1_searcher.own_agent.agents import OwnAgent
from r1_searcher.own_agent.player import OwnAgentPlayer


def test_a_plain_function_runs_in_a_thread_with_a_client_of_its_own(tmp_path):
    file = tmp_path / "sync_agent.py"
    file.write_text(
        textwrap.dedent("""
            import requests

            def agent(question, settings):
                headers = {"Authorization": f"Bearer {settings.api_key}"}
                found = requests.post(settings.search_url, json={"query": question}, headers=headers).json()
                messages = [{"role": "user", "content": found["passages"][0]["text"]}]
                url = f"{settings.base_url}/chat/completions"
                reply = requests.post(url, json={"messages": messages}, headers=headers).json()
                return reply["choices"][0]["message"]["content"]
        """)
    )

    async def run():
        player, environment = OwnAgentPlayer(OwnAgent.of_function(f"{file}:agent", 300.0)), here()
        policies = [ScriptedPolicy(environment.tokenizer, ["Paris"]) for _ in range(4)]
        try:
            return await asyncio.gather(*(player.play(environment, ROW, policy) for policy in policies))
        finally:
            await player.close()

    for trajectory in asyncio.run(run()):
        assert (trajectory.answer, trajectory.error) == ("Paris", "")
        assert "A tower in Paris." in trajectory.spans[0].text
        assert trajectory.searches[0].shown_ids == ("p1",)


PROGRAM = """
import json, sys, threading, urllib.request
print("ready", flush=True)  # no line of ours
lock = threading.Lock()
def say(line):
    with lock:
        print(json.dumps(line), flush=True)
def answer(job):
    if job["question"] == "exit":
        import os; os._exit(7)
    if job["question"] == "error":
        return say({"id": job["id"], "error": "I cannot"})
    if job["question"] == "outside":
        return say({"id": job["id"], "error": "my index is down", "outside": True})
    body = json.dumps({"messages": [{"role": "user", "content": job["question"]}]}).encode()
    headers = {"Authorization": "Bearer " + job["api_key"], "Content-Type": "application/json"}
    request = urllib.request.Request(job["base_url"] + "/chat/completions", body, headers)
    with urllib.request.urlopen(request) as reply:
        say({"id": job["id"], "answer": json.load(reply)["choices"][0]["message"]["content"]})
for line in sys.stdin:
    threading.Thread(target=answer, args=(json.loads(line),)).start()
"""


def test_a_program_in_any_language_speaks_json_lines(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)

    async def run():
        player, environment = OwnAgentPlayer(OwnAgent.of_command(f"{sys.executable} {file}", 300.0)), here()

        async def one(question):
            row = replace(ROW, question=question)
            return await player.play(environment, row, ScriptedPolicy(environment.tokenizer, [f"of {question}"]))

        try:
            together = await asyncio.gather(*(one(f"Question {n}?") for n in range(5)), one("error"), one("outside"))
            return together, await one("exit"), await one("after")
        finally:
            await player.close()

    (*answered, error, outside), ended, after = asyncio.run(run())
    assert [trajectory.answer for trajectory in answered] == [f"of Question {n}?" for n in range(5)]
    assert (error.stop_reason, error.error) == (StopReason.AGENT_ERROR, "I cannot")
    assert (outside.stop_reason, outside.searches[-1].error) == (StopReason.RETRIEVER_ERROR, "my index is down")
    assert (ended.stop_reason, ended.error) == (StopReason.AGENT_ERROR, "its program ended with status 7")
    assert after.answer == "of after"  # started again


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("search_agent.py", "must be FILE.py:function"),
        ("nowhere.py:agent", "is not there"),
        (f"{EXAMPLE}:nobody", "has no function 'nobody'"),
        (f"{EXAMPLE}:answer_in", "must take"),
        ("{broken}:agent", "fails: ZeroDivisionError"),
    ],
)
def test_an_agent_that_cannot_be_started_is_bad_input(tmp_path, written, why):
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0")
    with pytest.raises(InputError, match=why):
        OwnAgent.of_function(written.replace("{broken}", str(broken)), 1.0)


def test_a_program_that_cannot_be_started_is_bad_input():
    for command, why in (("no-such-program --flag", "no program 'no-such-program'"), (" ", "empty"), ("'x", "quot")):
        with pytest.raises(InputError, match=why):
            OwnAgent.of_command(command, 1.0)
