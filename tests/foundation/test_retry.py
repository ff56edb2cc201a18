"""The one retry loop: how often, how long, when at once, and what it counts."""

from __future__ import annotations

import asyncio
import time

import pytest

from foundation.errors import BadResponse, OutsideFailure, Rejected, TimedOut, Unavailable
from foundation.retry import Attempts, RetryPolicy

FAST = RetryPolicy(attempts=3, backoff=0.01, deadline=5.0)


def run(*outcomes, policy=FAST, **rules):
    """The result or the failure of one call whose attempts have these outcomes, its counts, and what attempts saw."""
    attempts, left = Attempts(policy), list(outcomes)
    seen: list[tuple[int, float]] = []

    async def call(failures, limit_s):
        seen.append((failures, limit_s))
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def scenario():
        try:
            return await attempts.run(call, **rules)
        except OutsideFailure as error:
            return error

    return asyncio.run(scenario()), attempts.stats, seen


def test_backoff_doubles_up_to_its_cap_and_never_undercuts_the_service():
    policy = RetryPolicy(attempts=9, backoff=1.0, max_backoff=4.0)
    assert [policy.wait(n, None, 1.0) for n in (1, 2, 3, 4, 5000)] == [1.0, 2.0, 4.0, 4.0, 4.0]
    assert policy.wait(1, None, 0.0) == 0.5 and policy.wait(1, 7.0, 0.0) == 7.5


def test_a_long_time_out_has_a_deadline_to_fit():
    assert RetryPolicy.of_timeout(600.0) == RetryPolicy(deadline=4 * 600.0 + 60)
    assert RetryPolicy.of_timeout(600.0, attempts=2) == RetryPolicy(attempts=2, deadline=2 * 600.0 + 60)


def test_a_passing_failure_costs_one_more_request():
    result, stats, seen = run(Unavailable("down"), TimedOut("slow"), "good")
    assert result == "good" and [failures for failures, _ in seen] == [0, 1, 2]
    assert (stats.calls, stats.retries, dict(stats.failures)) == (1, 2, {})
    assert FAST.deadline >= seen[0][1] > seen[1][1] > seen[2][1]


def test_the_last_failure_says_how_often_it_was_tried():
    error, stats, _ = run(Unavailable("down"), Unavailable("down"), Unavailable("gone", status=503, reason="busy"))
    assert type(error) is Unavailable and str(error) == "gone (gave up after attempt 3 of 3)"
    assert (error.attempts, error.status, error.reason) == (3, 503, "busy")
    assert str(error.__cause__) == "gone"
    assert (stats.calls, stats.retries, dict(stats.failures)) == (1, 2, {"unavailable": 1})


@pytest.mark.parametrize("lasting", [BadResponse("garbage"), Rejected("no", status=400)])
def test_a_lasting_failure_is_not_tried_again_unless_asked_for(lasting):
    error, _, seen = run(lasting, "good")
    assert error is lasting and error.attempts == len(seen) == 1
    assert run(lasting, "good", again=lambda error: True)[0] == "good"


def test_a_bug_is_passed_on_and_not_counted():
    attempts = Attempts(FAST)

    async def call(failures, limit_s):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(attempts.run(call))
    assert attempts.stats.calls == 0


def test_no_wait_reaches_past_the_deadline():
    started = time.monotonic()
    error, _, seen = run(Unavailable("busy", retry_after_s=60.0), "good")
    assert "past the deadline of 5 s" in str(error) and len(seen) == 1 and time.monotonic() - started < 30


def test_another_server_is_asked_without_a_wait():
    slow = RetryPolicy(attempts=3, backoff=60.0, max_backoff=60.0)
    started = time.monotonic()
    assert run(Unavailable("down", retry_after_s=60.0), "good", policy=slow, at_once=lambda: True)[0] == "good"
    assert time.monotonic() - started < 30


def test_a_turn_comes_before_every_attempt_and_the_first_one_is_no_part_of_the_deadline():
    turns = []

    async def turn():
        turns.append(len(turns))
        await asyncio.sleep(0.3 if len(turns) == 1 else 0)

    short = RetryPolicy(attempts=3, backoff=0.01, deadline=0.25)
    result, stats, seen = run(Unavailable("down"), "good", policy=short, turn=turn)
    assert result == "good" and len(turns) == len(seen) == 2 and stats.seconds >= 0.3


def test_a_slot_is_held_over_all_attempts():
    async def scenario():
        slot, attempts, log = asyncio.Semaphore(1), Attempts(FAST), []

        async def call(name, failures):
            log.append(name)
            if not failures:
                raise Unavailable("down")
            return name

        async def one(name):
            return await attempts.run(lambda failures, _: call(name, failures), slot=slot)

        await asyncio.gather(one("a"), one("b"))
        return log

    assert asyncio.run(scenario()) == ["a", "a", "b", "b"]
