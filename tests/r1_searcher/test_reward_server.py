"""The reward in OpenRLHF's two remote forms: a file that is loaded by path, and a server over real HTTP."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.processes.commands import status_of
from support.services.fake_web import serve_app

import r1_searcher
from foundation.errors import InputError, RunAborted
from foundation.retry import RetryPolicy
from foundation.web_server import Access
from r1_searcher import reward_server
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import Span, SpanKind, StopReason, Trajectory
from r1_searcher.episode.trajectory_json import from_mapping, to_mapping
from r1_searcher.recipe.protocols import R1_SEARCHER_BASE as PROTOCOL
from r1_searcher.reward.parts import gated, judged_right
from r1_searcher.reward.rewards import REWARDS, Reward, WeightedPart, find_reward
from r1_searcher.run.reward_batch import score_batch
from r1_searcher.run.scorers import HttpReward

STAGE2 = REWARDS["r1_searcher.stage2"]
PROMPT = "Question: which city?\nAssistant: <think>"
COMPLETION = "So.</think> <answer>Paris</answer>"
ROW = QARow(id="1", question="Which city?", answers=("Paris",))
PACKAGE = Path(r1_searcher.__file__).parent


def row_request(*completions: str) -> dict[str, list[str]]:
    n = len(completions)
    return {
        "query": [f"<s>{PROMPT}{text}</s>" for text in completions],
        "prompts": [PROMPT] * n,
        "labels": [ROW.to_json()] * n,
    }


def trajectory_label(reason: StopReason = StopReason.ANSWERED) -> str:
    """One turn in which the policy wrote a query and a block itself: only the spans tell."""
    block = f"{PROTOCOL.before_documents}(1)x\n{PROTOCOL.after_documents}"
    text = f"<|begin_of_query|>x<|end_of_query|>{block}{COMPLETION}"
    spans = (Span(SpanKind.PROMPT, 0, 3, PROMPT), Span(SpanKind.ACTION, 3, 9, text))
    episode = Trajectory(row=ROW, ids=tuple(range(9)), spans=spans, stop_reason=reason, answer="Paris")
    return json.dumps(to_mapping(episode, with_ids=False))


def scored(request: dict[str, list[str]]) -> dict[str, Any]:
    return score_batch(request["query"], request["prompts"], request["labels"], STAGE2, PROTOCOL)


def test_one_query_gives_scalars_and_many_give_lists() -> None:
    one = scored(row_request(COMPLETION))
    assert (one["rewards"], one["scores"], one["extra_logs"]["reward/answer"]) == (1.0, 1.0, 1.0)
    many = scored(row_request(COMPLETION, "no answer"))
    assert many["rewards"] == many["scores"] == [1.0, -2.0]
    assert many["extra_logs"]["rule/one_answer"] == [1.0, 0.0]
    assert set(many["extra_logs"]) == set(one["extra_logs"])


def test_a_trajectory_label_is_scored_by_its_spans() -> None:
    request = {"query": ["ignored"], "prompts": ["not in it"], "labels": [trajectory_label()]}
    assert scored(request)["rewards"] == -1.0  # F1 1, forged: -2
    # The same text after a plain row cannot be told from a real search.
    text = json.loads(trajectory_label())["spans"][1][3]
    assert scored(row_request(text))["rewards"] == 1.0


def test_a_retriever_error_is_neutral() -> None:
    reply = scored({"query": [""], "prompts": [""], "labels": [trajectory_label(StopReason.RETRIEVER_ERROR)]})
    assert reply["rewards"] == 0.0
    assert {value for name, value in reply["extra_logs"].items() if name.startswith("reward/")} == {0.0}


WRONG_ANSWER = json.dumps({**json.loads(trajectory_label()), "answer": 7})
WRONG_SPAN = json.dumps({**json.loads(trajectory_label()), "spans": [["action", "0", 3, None]]})
BAD_REQUESTS = [
    ({"query": [], "prompts": [], "labels": []}, "at least one"),
    ({"query": ["a"], "prompts": [], "labels": ["{}"]}, "found 1, 0 and 1"),
    ({"query": ["ab"], "prompts": ["a"], "labels": ["Paris"]}, "must be JSON.*Paris"),
    ({"query": ["ab"], "prompts": ["a"], "labels": ["{}"]}, "'question' must be a non-empty string"),
    ({"query": ["ab"], "prompts": ["a"], "labels": ["[1]"]}, "must be a JSON object"),
    ({"query": ["ab"], "prompts": ["a"], "labels": ['{"question": "q", "answers": []}']}, "'answers'"),
    ({"query": ["ab"], "prompts": ["a"], "labels": ['{"spans": []}']}, "KeyError"),
    (
        {"query": ["ab"], "prompts": ["a"], "labels": ['{"spans": 1, "row": 2}']},
        "neither a row nor a trajectory",
    ),
    ({"query": ["ab"], "prompts": ["c"], "labels": [ROW.to_json()]}, "must contain its prompt"),
    ({"query": ["ab"], "prompts": ["a"], "labels": ['{"question": "q", "answers": [[7]]}']}, "non-empty string"),
    ({"query": ["ab"], "prompts": ["a"], "labels": ['{"question": {}, "answers": ["x"]}']}, "'question'"),
    ({"query": ["ab"], "prompts": ["a"], "labels": ["[" * 100_000]}, "must be JSON"),
    ({"query": ["ab"], "prompts": ["a"], "labels": [WRONG_ANSWER]}, "neither a row nor a trajectory"),
    ({"query": ["ab"], "prompts": ["a"], "labels": [WRONG_SPAN]}, "neither a row nor a trajectory"),
]


@pytest.mark.parametrize(("request_body", "message"), BAD_REQUESTS)
def test_what_is_wrong_with_a_request_is_said(request_body, message: str) -> None:
    with pytest.raises(InputError, match=message):
        scored(request_body)


def load_as_openrlhf_does() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reward_func", str(PACKAGE / "reward_func.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reward_func_is_loaded_by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_SEARCHER_REWARD", "r1_searcher.stage1")
    monkeypatch.setenv("R1_SEARCHER_PROTOCOL", "r1_searcher.base")
    request = row_request(COMPLETION)
    reply = load_as_openrlhf_does().reward_func(request["query"], request["prompts"], request["labels"])
    assert reply["rewards"] == 0.5  # no search, good format
    assert isinstance(reply["scores"], float)
    assert all(isinstance(value, float) for value in reply["extra_logs"].values())


@pytest.mark.parametrize("variable", ["R1_SEARCHER_REWARD", "R1_SEARCHER_PROTOCOL"])
def test_a_wrong_name_stops_the_load(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "stage3")
    with pytest.raises(InputError, match=r"unknown (reward|protocol) 'stage3'; known: r1_searcher\."):
        load_as_openrlhf_does()


def test_reward_func_logs_what_openrlhf_would_swallow(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError):
        load_as_openrlhf_does().reward_func(["ab"], ["a"], ["Paris"])
    assert "must be JSON" in caplog.text


@pytest.mark.parametrize(
    "reward", [find_reward("judge=1"), Reward("mine", "", {"answer": WeightedPart(1.0, gated(judged_right))})]
)
def test_a_reward_that_asks_a_judge_is_refused(reward: Reward) -> None:
    """It was exact match: "the city of Paris" was worth nothing."""
    request = row_request("So.</think> <answer>the city of Paris</answer>")
    with pytest.raises(InputError, match=f"the reward '{reward.name}' asks a judge"):
        score_batch(request["query"], request["prompts"], request["labels"], reward, PROTOCOL)


def test_a_file_of_a_reward_that_asks_a_judge_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_SEARCHER_REWARD", "judge=1")
    with pytest.raises(InputError, match="the reward 'judge=1' asks a judge"):
        load_as_openrlhf_does()


def start(*args: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.Popen(
        [sys.executable, "-m", "r1_searcher.reward_server", *args],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ready = tmp_path_factory.mktemp("server") / "url.txt"
    options = ("--ready-file", str(ready), "--exit-with-parent", str(os.getpid()))
    server = start("--reward", STAGE2.name, "--protocol", PROTOCOL.name, *options)
    deadline = time.monotonic() + 30
    while not ready.exists() and server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ready.exists(), server.communicate()[1]
    yield ready.read_text().strip()
    server.send_signal(signal.SIGTERM)
    server.communicate(timeout=10)
    assert server.returncode == 0
    assert not ready.exists()


def call(url: str, body: object = None) -> tuple[int, dict[str, Any]]:
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_health(url: str) -> None:
    expected = {"status": "ready", "reward": STAGE2.name, "protocol": PROTOCOL.name}
    assert call(f"{url}/health") == (200, expected)


@pytest.mark.parametrize("path", ["/get_reward", "/"])
def test_the_server_answers_as_the_function(url: str, path: str) -> None:
    label = {"query": ["x"], "prompts": ["y"], "labels": [trajectory_label()]}
    for request in (row_request(COMPLETION), row_request(COMPLETION, "東京"), label):
        assert call(url + path, request) == (200, scored(request))


@pytest.mark.parametrize(("request_body", "message"), BAD_REQUESTS)
def test_bad_requests_get_one_line(url: str, request_body, message: str) -> None:
    status, reply = call(f"{url}/get_reward", request_body)
    assert status == 400
    assert set(reply) == {"error"} and "\n" not in reply["error"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "must be a JSON object"),
        (b"[" * 100_000, 400, "must be a JSON object"),
        (b"\xff", 400, "must be a JSON object"),
        ([1], 400, "must be a JSON object"),
        ({"query": ["a"], "labels": ["{}"]}, 400, "'prompts' must be a list of strings, found None"),
        ({"query": "ab", "prompts": ["a"], "labels": ["{}"]}, 400, "'query' must be a list of strings"),
        ({"query": [1], "prompts": ["a"], "labels": ["{}"]}, 400, "'query' must be a list of strings"),
        (None, 405, "Method Not Allowed"),
    ],
)
def test_other_bodies(url: str, body: object, status: int, message: str) -> None:
    found, reply = call(f"{url}/get_reward", body)
    assert found == status and message in reply["error"]


def test_the_server_asks_for_its_token_and_the_trainer_sends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    app = reward_server.create_app(STAGE2, PROTOCOL, access=Access("right"), max_body_bytes=10_000)
    episode = from_mapping(json.loads(trajectory_label()))

    async def score(url: str) -> float:
        scorer = HttpReward(f"{url}/get_reward", RetryPolicy(attempts=1))
        try:
            return (await scorer.score(episode)).total
        finally:
            await scorer.close()

    with serve_app(app) as url:
        assert call(f"{url}/health")[0] == 200
        assert call(f"{url}/get_reward", row_request(COMPLETION))[0] == 401
        monkeypatch.setenv("REWARD_TOKEN", "wrong")
        with pytest.raises(RunAborted, match="401"):
            asyncio.run(score(url))
        monkeypatch.setenv("REWARD_TOKEN", "right")
        assert asyncio.run(score(url)) == -1.0


def test_a_body_over_the_limit_is_refused() -> None:
    client = reward_server.create_app(STAGE2, PROTOCOL, max_body_bytes=1000).test_client()
    answer = client.post("/get_reward", data=b"x" * 2000)
    assert answer.status_code == 413 and "Request Entity Too Large" in answer.json["error"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--reward", "x", "--protocol", PROTOCOL.name), "unknown reward 'x'; known: r1_searcher.stage1"),
        (("--reward", "judge=1", "--protocol", PROTOCOL.name), "the reward 'judge=1' asks a judge"),
        (("--reward", STAGE2.name, "--protocol", "x"), "unknown protocol 'x'; known: r1_searcher.base"),
        (("--reward", STAGE2.name, "--protocol", PROTOCOL.name, "--port", "70000"), "from 0 to 65535"),
    ],
)
def test_a_wrong_start_is_one_line(
    args: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reward_server, "StopSignal", lambda: None)  # this process keeps its own signal handlers
    assert status_of(reward_server.main, *args) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
