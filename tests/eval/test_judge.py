"""eval.judge against a real HTTP endpoint that answers, fails, hangs and talks nonsense."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.processes.commands import status_of
from support.services.fake_endpoint import Answer, chat, serve

from eval.judge import main
from eval.score import score_file
from foundation.chat.endpoint import ChatReply
from r1_searcher.reward.judge import Case, Judge, VerdictCache

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, n: int) -> Path:
    """Questions `Q0?`…; the odd ones are answered with the gold, the even ones wrongly."""
    file = folder / "run.jsonl"
    rows = [
        {"question": f"Q{i}?", "answer": f"gold{i}", "pred_ans": f"gold{i}" if i % 2 else "other"} for i in range(n)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def number(request) -> int:
    """Which question a request is about."""
    return int(request["messages"][0]["content"].split("Question: Q")[1].split("?")[0])


def right(request) -> bool:
    text = request["messages"][0]["content"]
    return f'to check: "gold{number(request)}"' in text


def verdict(request, seen: int) -> Answer:
    return chat(str(right(request)))


def run(file: Path, url: str, *extra: str, out: Path | None = None) -> int:
    options = ["--endpoint", url, "--model", "m", "--timeout", "30", "--attempts", "2", "--concurrency", "8"]
    return main([str(file), *options, *(("--json", str(out)) if out else ()), *extra])


def test_verdicts_errors_timeouts_and_nonsense(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JUDGE_KEY", "sk-secret")
    monkeypatch.setattr("foundation.retry.RetryPolicy.wait", lambda *_: 0.01)
    bad = {
        0: Answer({"error": {"message": "out of order"}}, status=500),
        1: Answer({}, seconds=2.0),
        2: chat("Perhaps."),
        3: Answer("<html>", headers={"content-type": "text/html"}),
        4: Answer({"choices": []}),
        5: chat(None),
        6: Answer({"error": {"message": "refused"}}, status=400),
        7: Answer("{broken"),
    }

    def script(request, seen: int) -> Answer:
        n = number(request)
        if n == 8 and seen == 0:
            return Answer({}, status=429, headers={"retry-after": "0"})
        return bad.get(n) or verdict(request, seen)

    file, out = write(tmp_path, 24), tmp_path / "judge.json"
    with serve(script) as endpoint:
        # A busy machine, too, answers the others within this time.
        assert run(file, endpoint.url, "--timeout", "1.5", "--price-in", "1000", "--price-out", "10000",
                   "--key-variable", "JUDGE_KEY", out=out) == 0  # fmt: skip
        assert endpoint.most_at_once <= 8
        requests = len(endpoint.requests)
        found = json.loads(out.read_text())
        assert found["score"]["unjudged"] == {"error": 1, "timeout": 1, "nonsense": 1, "rejected": 5}
        assert (found["score"]["n"], found["score"]["judged"], found["score"]["accuracy"]) == (24, 16, 0.5)
        now = found["cost"]["this_run"]
        # 500, time-out and 429 twice; a 400 and what is no JSON of the API are not asked again
        assert now["requests"] == requests == 24 + 3
        assert (now["prompt_tokens"], now["completion_tokens"]) == (1700, 17)
        assert now["price"] == pytest.approx(1.7 + 0.17)
        assert set(endpoint.keys) == {"Bearer sk-secret"}

        assert run(file, endpoint.url, "--timeout", "1.5", out=out) == 0
        again = json.loads(out.read_text())
        assert again["score"] == found["score"]
        # What the endpoint failed to answer is asked again; what the judge said is kept, nonsense too.
        assert again["cost"]["this_run"]["requests"] == len(endpoint.requests) - requests == 9
        assert again["cost"]["all_verdicts"]["prompt_tokens"] == 1700
        requests = len(endpoint.requests)

        bad.clear()
        assert run(file, endpoint.url, "--retry-unjudged", out=out) == 0
        assert len(endpoint.requests) == requests + 8
        assert run(file, endpoint.url, out=out) == 0
        assert len(endpoint.requests) == requests + 8, "a judged question was asked again"
        assert json.loads(out.read_text())["score"]["judged"] == 24
    shown = "".join(capsys.readouterr())
    assert "8 of 24 questions have no verdict; the first: " in shown and "out of order" in shown
    everything = "".join(path.read_text() for path in tmp_path.iterdir()) + shown
    assert "sk-secret" not in everything


def test_agreement_with_cover_em(tmp_path):
    """The judge is strict on Q1 (covered, called wrong) and lenient on Q0 (not covered, called right)."""
    flipped = {0: "True", 1: "False"}
    file, out = write(tmp_path, 10), tmp_path / "judge.json"
    with serve(lambda request, seen: chat(flipped.get(number(request), str(right(request))))) as endpoint:
        assert run(file, endpoint.url, out=out) == 0
    agreement = json.loads(out.read_text())["score"]["agreement_with_cover_em"]
    # 4 + 4 of 10 agree; both call half of them right, so that 0.5 would agree by chance
    assert agreement == {
        "both_right": 4,
        "both_wrong": 4,
        "judge_only": 1,
        "cover_em_only": 1,
        "agreement": 0.8,
        "kappa": 0.6,
    }


def test_no_answer_is_wrong_without_asking_and_equal_cases_are_asked_once(tmp_path):
    row = {"question": "Q1?", "answer": "gold1", "pred_ans": "gold1"}
    file, out = tmp_path / "run.jsonl", tmp_path / "judge.json"
    file.write_text("".join(json.dumps(each) + "\n" for each in [row, row, row | {"pred_ans": None}]))
    with serve(verdict) as endpoint:
        assert run(file, endpoint.url, out=out) == 0
        assert len(endpoint.requests) == 1
    found = json.loads(out.read_text())
    assert (found["score"]["n"], found["score"]["no_answer"]) == (3, 1)
    assert found["score"]["accuracy"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["cost"]["all_verdicts"]["questions"] == 1


def test_verdicts_beside_predictions_are_scored_and_compared(tmp_path):
    file = write(tmp_path, 10)
    assert "judge" not in score_file(file)["score"]
    with serve(lambda request, seen: chat("?") if number(request) == 9 else verdict(request, seen)) as endpoint:
        assert run(file, endpoint.url) == 0
    judge = score_file(file)["score"]["judge"]
    assert (judge["n"], judge["accuracy"]) == (9, round(4 / 9, 6))  # what could not be judged is not wrong


def test_another_model_or_temperature_is_another_judge(tmp_path):
    file = write(tmp_path, 2)
    with serve(verdict) as endpoint:
        for extra in ((), ("--temperature", "0.7"), ("--model", "other")):
            assert run(file, endpoint.url, *extra) == 0
        assert len(endpoint.requests) == 6


@pytest.mark.e2e
def test_kill_9_loses_the_questions_in_flight_only(tmp_path):
    file, n, at_once = write(tmp_path, 60), 60, 4
    with serve(lambda request, seen: Answer(verdict(request, seen).body, seconds=0.05)) as endpoint:
        options = ["--endpoint", endpoint.url, "--model", "m", "--concurrency", str(at_once)]
        command = [sys.executable, "-m", "eval.judge", str(file), *options]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(endpoint.requests) < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.1)  # the server counts what had reached it
        assert 20 <= len(endpoint.requests) < n
        assert main([str(file), *options]) == 0
        assert n <= len(endpoint.requests) <= n + at_once
        assert main([str(file), *options]) == 0
        assert len(endpoint.requests) <= n + at_once


def test_a_full_disk_is_one_clear_error(tmp_path, capsys):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with serve(verdict) as endpoint:
        assert run(write(tmp_path, 4), endpoint.url, "--cache", "/dev/full") == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert "cannot write /dev/full: No space left" in last


def test_an_error_after_everybody_has_left_is_not_told_by_asyncio():
    """The first of several full-disk errors ends the command; those after it would be printed as lost tasks."""

    class Slow:
        async def chat(self, messages, **_) -> ChatReply:
            await leave.wait()
            return ChatReply("True", 1, 1, 1)

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        judge = Judge(Slow(), "m", VerdictCache(Path("/dev/full")))
        waiting = asyncio.create_task(judge.judge(Case("Q?", ("gold",), "x")))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        leave.set()
        await asyncio.sleep(0.01)
        assert not judge.asked, "nothing could be kept"
        gc.collect()  # asyncio tells when the task is thrown away

    told, leave = [], asyncio.Event()
    asyncio.run(scenario())
    assert told == []


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (["--endpoint", "127.0.0.1:9"], "http://host:port"),
        (["--endpoint", "http://127.0.0.1:9"], "does not answer"),
        (["--concurrency", "0"], "at least 1"),
        (["--timeout", "0"], "above 0"),
        (["--timeout", "-1000"], "above 0"),
        (["--json", "/nowhere/out.json"], "existing folder"),
        (["--cache", "/nowhere/cache.jsonl"], "existing folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(changed, complaint, tmp_path, capsys):
    file = write(tmp_path, 1)
    assert status_of(main, file, "--endpoint", "http://127.0.0.1:9", "--model", "m", *changed) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer({"error": {"message": "wrong key"}}, status=401), "status 401: wrong key"),
        (Answer({"detail": "Invalid API key"}, status=403), "Invalid API key"),
        (Answer({"object": "error", "message": "The model `m` does not exist.", "code": 404}, 404), "model `m`"),
        (Answer("<html>404 Not Found</html>", 404, headers={"content-type": "text/html"}), "404 Not Found"),
        (Answer({"error": {"message": "Insufficient Balance"}}, status=402), "Insufficient Balance"),
        (Answer({"error": "invalid model name"}, status=400), "none of 6 questions was judged"),
        (Answer({"error": {"message": "slow down"}}, 429, headers={"retry-after": "0"}), "slow down"),
        (chat("I cannot say."), "neither True nor False but 'I cannot say.'"),
    ],
)
def test_where_nothing_is_judged_the_server_s_own_words_are_the_end(answer, said, tmp_path, monkeypatch, capsys):
    """ucbepic/docetl #50, cafferychen777/mLLMCelltype #65: and the same command with a right key asks."""
    monkeypatch.setattr("foundation.retry.RetryPolicy.wait", lambda *_: 0.01)
    file, out = write(tmp_path, 6), tmp_path / "judge.json"
    answers = [answer]
    with serve(lambda request, seen: answers[0] if answers else verdict(request, seen)) as endpoint:
        status = run(file, endpoint.url, out=out)
        assert status == (2 if answer.status in (401, 402, 403, 404) else 3)
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("eval.judge: ")]
        assert len(error) == 1 and said in error[0] and not out.exists()
        if status == 2:
            assert len(endpoint.requests) == 1, "the first refusal is enough"
        answers.clear()
        assert run(file, endpoint.url, *(() if answer.status != 200 else ("--retry-unjudged",)), out=out) == 0
    assert json.loads(out.read_text())["score"]["judged"] == 6


def test_a_verdict_with_its_reason_on_one_line_is_a_verdict(tmp_path):
    """modelscope/evalscope PR #1588, open-compass/opencompass PR #2598: small judges write so."""
    said = {True: "True. Both name the same city.", False: "False - it names another river."}
    file, out = write(tmp_path, 4), tmp_path / "judge.json"
    with serve(lambda request, seen: chat(said[right(request)])) as endpoint:
        assert run(file, endpoint.url, out=out) == 0
    found = json.loads(out.read_text())["score"]
    assert (found["n"], found["judged"], found["accuracy"]) == (4, 4, 0.5)


def test_failures_that_an_earlier_version_kept_are_asked_again(tmp_path):
    file, cache = write(tmp_path, 1), tmp_path / "v.jsonl"
    with serve(verdict) as endpoint:
        assert run(file, endpoint.url, "--cache", str(cache)) == 0
        kept = json.loads(cache.read_text())
        failed = {"correct": None, "unjudged": "error", "reply": "status 401", "requests": 1}
        cache.write_text(json.dumps({**kept, "verdict": failed}) + "\n")
        assert run(file, endpoint.url, "--cache", str(cache)) == 0
        assert len(endpoint.requests) == 2


@pytest.mark.parametrize("variables", [{"http_proxy": "http://127.0.0.1:9"}, {"ALL_PROXY": "socks5://127.0.0.1:9"}])
def test_a_judge_on_this_machine_is_asked_directly(variables, tmp_path, monkeypatch):
    """THUDM/slime PR #1714; chatchat-space/Langchain-Chatchat #605."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with serve(verdict) as endpoint:
        assert run(write(tmp_path, 3), endpoint.url) == 0


def test_a_socks_proxy_is_one_line_where_it_would_be_needed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    file = write(tmp_path, 1)
    assert run(file, "http://127.0.0.1:9") == 2 and "does not answer" in capsys.readouterr().err
    assert run(file, "https://judge.example.org") == 2
    error = capsys.readouterr().err
    assert "socks5 proxy" in error and error.count("\n") == 1
