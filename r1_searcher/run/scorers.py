"""Computes an episode's reward in this process, by an OpenRLHF `reward_func` file, or on a reward server.

All three run the functions of `r1_searcher.reward.rewards`; the remote two are sent the trajectory itself (as the
label), so that they too see who wrote what.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import os
import socket
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from foundation.chat.endpoint import OpenAIEndpoint
from foundation.errors import BadResponse, InputError, OutsideFailure, RunAborted
from foundation.files import parse_json
from foundation.http import AiohttpTransport, HttpLimits, checked, display_url
from foundation.process import REWARD_TOKEN_VARIABLE
from foundation.retry import Attempts, RetryPolicy
from foundation.secrets import check_may_carry_key, with_credentials
from r1_searcher.episode.trajectory import SpanKind, Trajectory
from r1_searcher.episode.trajectory_json import to_mapping
from r1_searcher.recipe.recipe import Recipe
from r1_searcher.reward.judge import Case, Judge, Verdict, VerdictCache
from r1_searcher.reward.rewards import RewardResult, neutral, score
from r1_searcher.run.run_config import RunConfig
from r1_searcher.run.run_folder import RunFolder

HTTP_LIMITS = HttpLimits(connect_timeout=60.0, read_timeout=60.0)
HTTP_RETRY = RetryPolicy(attempts=5, backoff=1.0, max_backoff=8.0, deadline=330.0)


class Scorer(typing.Protocol):
    """Scores finished episodes."""

    async def score(self, trajectory: Trajectory, stage: int = 1) -> RewardResult:
        """The reward of one episode, in a stage of the run (1, or 2 after the recipe's switch)."""


def scorer_of(run: RunConfig) -> Scorer:
    """In-process without a URL, a file for a path that ends in `.py`, HTTP for the rest."""
    if not run.reward_url:
        return InProcessReward(run.recipe, _judge_of(run))
    return HttpReward(run.reward_url) if is_reward_server(run.reward_url) else FileReward(run.reward_url)


def is_reward_server(url: str) -> bool:
    """Whether a reward comes over HTTP, also from an address that ends in `.py`; else from a file of Python."""
    return url.startswith(("http://", "https://")) or not url.endswith(".py")


def _judge_of(run: RunConfig) -> Judge | None:
    """The run's judge, which knows the verdicts in the run folder: of earlier attempts, and of other engines so far."""
    if run.judge is None:
        return None
    endpoint = OpenAIEndpoint(run.judge.endpoint)
    folder = RunFolder(Path(run.run_dir)).verdicts
    own = folder / f"{socket.gethostname()}-{os.getpid()}.jsonl"
    return Judge(endpoint, run.judge.model, VerdictCache(own, earlier=sorted(folder.glob("*.jsonl"))))


class InProcessReward:
    """The recipe's own reward, or both of a recipe with two stages."""

    def __init__(self, recipe: Recipe, judge: Judge | None = None) -> None:
        self._rewards = recipe.rewards
        self._protocol = recipe.protocol
        self._judge = judge
        if judge is None and any(reward.asks_judge for reward in self._rewards):
            raise InputError(f"the reward {recipe.reward.name!r} asks a judge, and the run has none; give --judge-url")
        # Every episode of a run logs the same keys, whatever its stage.
        self._parts = {name: 0.0 for reward in self._rewards for name in reward.parts}
        self._rules = {name: True for reward in self._rewards for name in reward.rules_under(self._protocol)}

    async def score(self, trajectory: Trajectory, stage: int = 1) -> RewardResult:
        """Score in this process, with the judge's verdict where the reward asks for one."""
        reward = self._rewards[stage - 1]
        verdict = await self._verdict(trajectory) if reward.asks_judge else Verdict(None)
        right = False if verdict.unjudged is not None and verdict.unjudged.is_the_answers_doing else verdict.correct
        result = score(reward, trajectory, self._protocol, right)
        notes = {} if self._judge is None else {"judge/unjudged": float(verdict.unjudged is not None)}
        return replace(
            result, parts={**self._parts, **result.parts}, rules={**self._rules, **result.rules}, notes=notes
        )

    async def _verdict(self, trajectory: Trajectory) -> Verdict:
        """The judge's verdict; an answer that is missing, or too long to be one, is wrong without asking."""
        if trajectory.answer is None or trajectory.failed:
            return Verdict(False)
        assert self._judge is not None
        case = Case(trajectory.row.question, trajectory.row.answers, trajectory.answer)
        return Verdict(False) if case.is_too_long else await self._judge.judge(case)


class FileReward:
    """`reward_func(queries, prompts, labels)` of a Python file, loaded and called as OpenRLHF does."""

    def __init__(self, path: str) -> None:
        spec = importlib.util.spec_from_file_location("reward_func", path)
        if spec is None or spec.loader is None:
            raise RunAborted(f"cannot load the reward function file {path}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._reward_func: Callable[..., Mapping[str, Any]] = module.reward_func

    async def score(self, trajectory: Trajectory, stage: int = 1) -> RewardResult:
        """Score with the user's function, in a thread."""
        query, prompt, label = _request(trajectory)
        return _result(await asyncio.to_thread(self._reward_func, [query], [prompt], [label]), trajectory)


class HttpReward:
    """A reward server in OpenRLHF's wire format."""

    def __init__(self, url: str, retry: RetryPolicy = HTTP_RETRY) -> None:
        self._url = with_credentials(url)
        token = os.environ.get(REWARD_TOKEN_VARIABLE)
        named = "@" in urlsplit(self._url).netloc  # a user name and a token cannot both be sent
        headers = {"Authorization": f"Bearer {token}"} if token and not named else {}
        if headers:
            _check_token(self._url)
        self._transport = AiohttpTransport(HTTP_LIMITS, headers)
        self._attempts = Attempts(retry)

    async def score(self, trajectory: Trajectory, stage: int = 1) -> RewardResult:
        """Ask the server, a bounded number of times.

        Raises:
            RunAborted: it gave no usable answer; an episode is never trained on with a made-up reward.
        """
        query, prompt, label = _request(trajectory)
        body = json.dumps({"query": [query], "prompts": [prompt], "labels": [label]}).encode()
        try:
            # Whatever failed: a server that was just restarted may have answered anything.
            return await self._attempts.run(
                lambda _, limit_s: self._ask(body, limit_s, trajectory), again=lambda _: True
            )
        except OutsideFailure as error:
            raise RunAborted(
                f"the reward server {display_url(self._url)} gave no usable answer in {error.attempts} tries; last: "
                f"{error}. Start it and run the same command again."
            ) from error

    async def close(self) -> None:
        """Release the running event loop's connections."""
        await self._transport.close()

    async def _ask(self, body: bytes, limit_s: float, trajectory: Trajectory) -> RewardResult:
        shown = display_url(self._url)
        reply = await self._transport.send("POST", self._url, body, min(limit_s, HTTP_LIMITS.read_timeout))
        try:
            return _result(parse_json(checked(reply, shown)), trajectory)
        except ValueError as error:
            raise BadResponse(f"{shown}: {error}") from error


def _check_token(url: str) -> None:
    try:
        check_may_carry_key(url, REWARD_TOKEN_VARIABLE)
    except ValueError as error:
        raise InputError(str(error)) from error


def _request(trajectory: Trajectory) -> tuple[str, str, str]:
    """(query, prompt, label) of OpenRLHF's reward call; the label carries the spans."""
    prompt = "".join(span.text for span in trajectory.of_kind(SpanKind.PROMPT))
    label = json.dumps(to_mapping(trajectory, with_ids=False), ensure_ascii=False)
    return prompt + trajectory.completion, prompt, label


def _result(reply: Any, trajectory: Trajectory) -> RewardResult:
    """OpenRLHF's reply, for one query, as a reward; parts and rules travel in its `extra_logs`.

    Whatever a server makes of an episode whose search or agent failed, its reward is the neutral one.

    Raises:
        ValueError: the reply has no finite reward.
    """
    if not isinstance(reply, Mapping) or "rewards" not in reply:
        raise ValueError(f"expected an object with 'rewards', found {str(reply)[:200]}")
    logs = {key: _number(value) for key, value in (reply.get("extra_logs") or {}).items()}
    parts = {key.removeprefix("reward/"): value for key, value in logs.items() if key.startswith("reward/")}
    rules = {key.removeprefix("rule/"): value >= 0.5 for key, value in logs.items() if key.startswith("rule/")}
    total = _number(reply["rewards"])
    if trajectory.failed:
        return neutral(parts, rules)
    return RewardResult(total, parts, rules)


def _number(value: Any) -> float:
    """The one number of a reply's field: a number, a list of one, or a tensor of one."""
    try:
        value = value[0] if isinstance(value, list) else value
        number = float(value.item() if hasattr(value, "item") else value)
    except (TypeError, IndexError, ValueError) as error:
        raise ValueError(f"expected one number, found {str(value)[:200]}") from error
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, found {number}")
    return number
