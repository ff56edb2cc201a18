"""One run of stage 2 that meets, one after the other, what can happen to a night's work.

1. The retriever is killed and comes back once searches have failed: training continues, and what failed is counted
   and masked.
2. The retriever stays away: the run ends with one clear line, and its checkpoint is whole.
3. The run is killed with -9 in mid-training.
4. The same command, again, ends it: the right number of steps, no question repeated or skipped.
"""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from support.processes.e2e_stack import check_every_question_is_trained_on_once, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

STEPS = 10  # 80 questions, 8 a step
OPTIONS = ("--retriever-attempts", "2", "--retriever-deadline", "4", "--outage-seconds", "25")


def test_a_run_survives_what_can_happen_to_it(training, world, retriever):
    run = training(2, world / "stage2.jsonl", retriever.url, "--ckpt.save_steps", "2", options=OPTIONS)

    process = run.start()
    wait_until(lambda: run.steps() >= 1 or process.poll() is not None, 400, "the first step")
    retriever.kill()
    wait_until(lambda: bool(failed_episodes(run)) or process.poll() is not None, 60, "a search to fail")
    retriever.start()
    before = run.steps()
    wait_until(lambda: run.steps() > before + 1 or process.poll() is not None, 120, "training to continue")
    wait_until(lambda: run.checkpoint() >= 2, 60, "a checkpoint")
    retriever.kill()
    assert process.wait(240) == 3, run.console[-2000:]
    last = [line for line in run.console.splitlines() if line.startswith("r1_searcher.train: ")][-1]
    assert "the search service has been down for" in last and "run the same command again" in last
    interrupted = run.checkpoint()
    assert 2 <= interrupted < STEPS and not (run.run_dir / "complete").exists()
    check_failures_are_counted_and_masked(run)

    retriever.start()
    process = run.start()
    wait_until(lambda: run.checkpoint() > interrupted or process.poll() is not None, 400, "a checkpoint after resuming")
    left = family(process.pid)
    os.kill(supervisor_of(process.pid), signal.SIGKILL)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    killed_at = run.checkpoint()
    assert killed_at < STEPS, "the run was over before it could be killed; make it longer"

    assert run.finish() == 0, run.console[-2000:]
    assert run.steps() == STEPS and run.checkpoint() == STEPS and (run.run_dir / "complete").exists()
    assert sorted(run.attempts())[-1] == killed_at
    questions = (world / "stage2.jsonl").read_text().splitlines()
    assert len(questions) == 8 * STEPS
    check_every_question_is_trained_on_once(run, STEPS, len(questions))
    assert not [pid for pid in left if psutil.pid_exists(pid)], "processes of the killed attempt are left"
    check_model_loads(run.run_dir / "model")


def family(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def supervisor_of(pid: int) -> int:
    """The `r1_searcher.train` process that a stage script has become, or that it has started."""
    script = psutil.Process(pid)
    for child in (script, *script.children(recursive=True)):
        if "r1_searcher.train" in child.cmdline():
            return child.pid
    raise AssertionError("no trainer under the script")


def failed_episodes(run) -> list[dict]:
    episodes = [episode for attempt in run.attempts().values() for episode in attempt]
    return [episode for episode in episodes if episode["stop_reason"] == "retriever_error"]


def check_failures_are_counted_and_masked(run) -> None:
    failed = failed_episodes(run)
    assert failed and all(episode["searches"][-1]["error"] for episode in failed)
    assert all(episode["reward"]["total"] == 0 for episode in failed)
    counted = sum(line["retrieval/failed_attempts"] * 64 for line in run.metrics())
    assert counted >= 1, "no failed attempt reached the metrics"
    assert all(line["policy_loss"] is not None and line["actor_grad_norm"] is not None for line in run.metrics())


def check_model_loads(folder) -> None:
    """In plain transformers; vLLM loads it in the evaluation of the quickstart's test."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer("Question : What is the home of the person ", return_tensors="pt")["input_ids"]
    # Which token this short run's model likes best differs between runs, the end of the text among them.
    generated = model.generate(ids, min_new_tokens=4, max_new_tokens=4, do_sample=False)
    assert generated.shape[1] == ids.shape[1] + 4
