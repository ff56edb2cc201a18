"""The real stack as a test drives it: a retriever that can be killed, and training as a user starts it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import psutil
import pytest

from foundation.process import starter_environment
from r1_searcher.launch.processes import end_killed_attempt

REPO = Path(__file__).resolve().parents[3]


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until `condition()` is true; fail the test with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.2)


def belongs_to(process: psutil.Process, folder: str) -> bool:
    """Whether a process was started with this folder in its command line."""
    try:
        return any(folder in word for word in process.cmdline())
    except psutil.Error:
        return False


def check_engine_follows_trainer(metrics: Sequence[dict]) -> None:
    """`vllm_kl`, the mean difference of engine's and trainer's log-probs, is at most 1e-3 at every step.

    One step may be an exception, up to 3e-3: about one step in a hundred holds a token whose context the tiny model has
    hardly seen, where bf16 rounding alone moves its log-prob by one or two nats.
    """
    distances = sorted(abs(line["vllm_kl"]) for line in metrics)
    assert all(distance <= 1e-3 for distance in distances[:-1]) and distances[-1] <= 3e-3, distances


def check_rewards_are_the_recipes(episodes: Iterable[dict], recipe: str) -> None:
    """Total, parts and rules of every episode are what the recipe's reward gives in this process."""
    from r1_searcher.episode.trajectory_json import from_mapping
    from r1_searcher.recipe.recipe import find_recipe
    from r1_searcher.reward.rewards import score

    found = find_recipe(recipe)
    for episode in episodes:
        here = score(found.reward, from_mapping(episode), found.protocol)
        assert episode["reward"] == {"total": here.total, "parts": dict(here.parts), "rules": dict(here.rules)}


@dataclasses.dataclass
class RetrieverProcess:
    """`python -m retriever.server` on a fixed port, which can be killed and started again."""

    corpus: Path
    port: int
    host: str = "127.0.0.1"
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "retriever.server", "--corpus", self.corpus, "--backend", "bm25"]
        command += ["--host", self.host, "--port", self.port, "--exit-with-parent", os.getpid()]
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._is_ready, 60, "the retriever")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _is_ready(self) -> bool:
        """It listens while it is still loading, and says so with a 503."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False


@dataclasses.dataclass(frozen=True)
class Training:
    """One training command; started twice, it is the same run."""

    run_dir: Path
    command: tuple[str, ...]
    started: list[subprocess.Popen] = dataclasses.field(default_factory=list)

    def start(self) -> subprocess.Popen:
        environment = {**os.environ, **starter_environment()}  # it ends where pytest is killed
        with (self.run_dir.parent / f"{self.run_dir.name}.console").open("ab") as console:
            process = subprocess.Popen(
                self.command, env=environment, stdout=console, stderr=console, start_new_session=True
            )
        self.started.append(process)
        return process

    def end(self) -> None:
        """End what a test has left of it that gave up on waiting, or that its time limit has ended."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        end_killed_attempt(self.run_dir / "session.json")

    def finish(self, seconds: float = 600) -> int:
        """Run to the end."""
        return self.start().wait(seconds)

    def finish_watched(self, look: Callable[[], Iterable[str]], seconds: float = 1500) -> tuple[int, set[str]]:
        """Run to the end; the status, and all that `look` found once the trainer's own processes were there."""
        process, found, give_up_at = self.start(), set(), time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < give_up_at:
            if (self.run_dir / "session.json").is_file():
                found.update(look())
            time.sleep(0.5)
        return process.wait(1), found

    @property
    def console(self) -> str:
        return (self.run_dir.parent / f"{self.run_dir.name}.console").read_text(encoding="utf-8", errors="replace")

    def metrics(self) -> list[dict]:
        path = self.run_dir / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    def steps(self) -> int:
        return max((line["step"] for line in self.metrics()), default=0)

    def checkpoint(self) -> int:
        latest = self.run_dir / "checkpoints" / "_actor" / "latest"
        return int(latest.read_text().removeprefix("global_step")) if latest.is_file() else 0

    def attempts(self) -> dict[int, list[dict]]:
        """First step of an attempt -> its episodes, in the order in which they ended."""
        from r1_searcher.run.episode_log import RunAttempt, read_episode_lines

        found: dict[int, list[dict]] = {}
        for path in sorted((self.run_dir / "trajectories").glob("*.jsonl"), key=lambda path: path.stat().st_mtime):
            found.setdefault(RunAttempt.of(path).first_step, []).extend(read_episode_lines(path))
        return found


def check_every_question_is_trained_on_once(run: Training, steps: int, questions: int) -> None:
    """No attempt repeats or skips a question of a run of one pass over the data.

    The steps that count are those of an attempt up to the checkpoint that the next one started from.
    """
    attempts = run.attempts()
    starts = sorted(attempts)
    asked: dict[str, set[int]] = {}
    for start, end in zip(starts, [*starts[1:], steps], strict=True):
        for episode in attempts[start]:
            if start < episode["step"] <= end:
                asked.setdefault(episode["row"]["id"], set()).add(episode["step"])
    assert all(len(found) == 1 for found in asked.values()), "a question was trained on twice"
    assert len(asked) == questions, "a question was skipped"
