"""Outages are waited out, the episode is played again, and nothing of a failed attempt is used."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import pytest
from support.episodes.fakes import ROW

from foundation.errors import RunAborted
from r1_searcher.episode.trajectory import SearchRecord, StopReason, Trajectory
from r1_searcher.run import outage
from r1_searcher.run.outage import ATTEMPTS, OutageGate


def trajectory(
    *, failed: bool = False, searches: int = 1, question: object = "q1", tool: str = "", failed_tool: str = ""
) -> Trajectory:
    good = SearchRecord("q", ("p",), ("p",), (1.0,), 0.0, tool=tool)
    bad = SearchRecord("q", (), (), (), 0.0, "RetrieverUnavailable: refused", tool=failed_tool)
    reason = StopReason.RETRIEVER_ERROR if failed else StopReason.ANSWERED
    row = dataclasses.replace(ROW, id=str(question))
    return Trajectory(row, (), (), reason, searches=(good,) * (searches - failed) + (bad,) * failed)


class Service:
    """A search service that is down until its health was asked for `down_for` times (for ever: None)."""

    def __init__(self, down_for: int | None = 0) -> None:
        self.down_for = down_for
        self.asked = 0

    async def healthy(self) -> bool:
        self.asked += 1
        await asyncio.sleep(0)
        return self.down_for is not None and self.asked > self.down_for

    def gate(self, outage: float = 30.0) -> OutageGate:
        return OutageGate(self.healthy, outage, poll_seconds=0.001)


async def attempts(gate: OutageGate, play: Callable[[int], Trajectory]) -> list[Trajectory]:
    played: list[Trajectory] = []

    async def once() -> Trajectory:
        await asyncio.sleep(0)
        return play(len(played) + 1)

    async for _, attempt in gate.attempts(once):
        played.append(attempt)
    return played


def reasons(played: list[Trajectory]) -> list[str]:
    return [attempt.stop_reason.value for attempt in played]


def test_a_good_episode_is_played_once_and_health_never_asked():
    service = Service()
    played = asyncio.run(attempts(service.gate(), lambda n: trajectory()))
    assert (reasons(played), service.asked) == (["answered"], 0)


def test_an_outage_is_waited_out_and_the_episode_played_again():
    service = Service(down_for=5)
    played = asyncio.run(attempts(service.gate(), lambda n: trajectory(failed=n == 1)))
    assert (reasons(played), service.asked) == (["retriever_error", "answered"], 6)


def test_new_episodes_wait_for_an_outage_that_another_found():
    service = Service(down_for=3)
    gate = service.gate()
    order: list[str] = []

    async def both():
        first = asyncio.create_task(attempts(gate, lambda n: trajectory(failed=n == 1)))
        await asyncio.sleep(0.0005)

        def late(n: int) -> Trajectory:
            order.append(f"played after {service.asked} health checks")
            return trajectory()

        await asyncio.gather(first, attempts(gate, late))

    asyncio.run(both())
    assert service.asked == 4 and order == ["played after 4 health checks"]


def test_an_outage_without_end_aborts_the_run_in_one_clear_line():
    gate = Service(down_for=None).gate(outage=0.02)
    with pytest.raises(RunAborted) as caught:
        asyncio.run(attempts(gate, lambda n: trajectory(failed=True)))
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "has been down",
        "bound: 0 s",
        "RetrieverUnavailable: refused",
        "run the same command again",
    ):
        assert part in message


def test_after_a_recovery_a_second_outage_has_the_whole_bound_again(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(outage.time, "monotonic", lambda: clock[0])
    asked = 0

    async def healthy() -> bool:
        nonlocal asked
        asked += 1
        clock[0] += 6.0
        return asked % 2 == 0

    gate = OutageGate(healthy, outage_seconds=10.0, poll_seconds=0)
    for _ in range(3):  # 12 s each, one success between them
        played = asyncio.run(attempts(gate, lambda n: trajectory(failed=n == 1)))
        assert reasons(played) == ["retriever_error", "answered"]


def test_healthy_but_useless_aborts_before_any_attempts_are_used_up():
    played: list[Trajectory] = []

    def play(n: int) -> Trajectory:
        played.append(trajectory(failed=True, question=len(played)))
        return played[-1]

    with pytest.raises(RunAborted, match="calls itself healthy, but a search fails in every episode.*refused"):
        asyncio.run(attempts(Service().gate(), play))
    assert len(played) < ATTEMPTS


def test_64_episodes_of_a_useless_service_all_stop_before_their_last_attempt():
    gate = Service().gate()

    async def all_at_once():
        episodes = (attempts(gate, lambda n, i=i: trajectory(failed=True, question=i // 8)) for i in range(64))
        return await asyncio.gather(*episodes, return_exceptions=True)

    results = asyncio.run(all_at_once())
    assert any(isinstance(result, RunAborted) for result in results)
    handed_on = [result for result in results if not isinstance(result, RunAborted)]
    assert not handed_on, "an engine must not hand on a step of masked episodes"


def test_a_poison_question_among_good_ones_is_handed_on_after_its_attempts():
    gate = Service().gate()

    async def step():
        good = asyncio.create_task(stream_of_good_ones(gate))
        poison = await attempts(gate, lambda n: trajectory(failed=True))
        good.cancel()
        return poison

    assert reasons(asyncio.run(step())) == ["retriever_error"] * ATTEMPTS


async def stream_of_good_ones(gate: OutageGate) -> None:
    while True:
        await attempts(gate, lambda n: trajectory())


def test_64_concurrent_episodes_share_one_wait():
    service = Service(down_for=4)
    gate = service.gate()

    async def all_at_once():
        return await asyncio.gather(*(attempts(gate, lambda n: trajectory(failed=n == 1)) for _ in range(64)))

    results = asyncio.run(all_at_once())
    assert all(reasons(result) == ["retriever_error", "answered"] for result in results)
    assert service.asked == 5


def test_episodes_without_a_search_prove_nothing():
    gate = Service().gate()

    def fails_once(question: str) -> Callable[[int], Trajectory]:
        return lambda n: trajectory(failed=n == 1, searches=int(n == 1), question=question)

    asyncio.run(attempts(gate, fails_once("a")))
    asyncio.run(attempts(gate, fails_once("b")))
    with pytest.raises(RunAborted):
        asyncio.run(attempts(gate, fails_once("c")))


def test_a_bug_in_an_episode_is_passed_on_and_leaves_the_guard_open():
    gate = Service().gate()

    async def broken():
        raise ZeroDivisionError

    async def run():
        async for _ in gate.attempts(broken):
            pass

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())
    assert reasons(asyncio.run(attempts(gate, lambda n: trajectory()))) == ["answered"]


def test_stragglers_of_one_short_outage_do_not_abort_the_run():
    """One outage, long over: searches that hung in it fail one by one while the replays are playing."""
    gate = Service().gate()

    async def straggler(place: int) -> list[Trajectory]:
        played = 0

        async def play() -> Trajectory:
            nonlocal played
            played += 1
            if played == 1:
                await asyncio.sleep(0.01 * place)  # time-outs of requests that were sent at different times
                return trajectory(failed=True)
            await asyncio.sleep(0.2)  # a replay takes its time, and its searches work
            return trajectory()

        return [attempt async for _, attempt in gate.attempts(play)]

    async def all_at_once():
        return await asyncio.gather(*map(straggler, range(1, 9)))

    assert all(reasons(result) == ["retriever_error", "answered"] for result in asyncio.run(all_at_once()))


def test_searches_that_worked_do_not_hide_that_every_episode_fails():
    """As with a working `--search` and a `--browse` that is down: nothing would be trained but what never browses."""
    gate = Service().gate()

    async def all_at_once():
        episodes = (attempts(gate, lambda n, i=i: trajectory(failed=True, searches=3, question=i)) for i in range(8))
        return await asyncio.gather(*episodes, return_exceptions=True)

    assert all(isinstance(result, RunAborted) for result in asyncio.run(all_at_once()))


@pytest.mark.parametrize(("works", "fails", "is_over"), [("search", "browse", True), ("browse", "browse", False)])
def test_episodes_that_only_search_do_not_hide_that_no_page_can_be_read(works, fails, is_over):
    gate = Service().gate()

    async def step():
        for question in range(2 * ATTEMPTS):
            await attempts(gate, lambda n: trajectory(tool=works))
            await attempts(
                gate, lambda n, q=question: trajectory(failed=n == 1, question=q, tool=works, failed_tool=fails)
            )

    if is_over:
        with pytest.raises(RunAborted):
            asyncio.run(step())
    else:
        asyncio.run(step())


def test_one_question_whose_later_search_fails_is_handed_on():
    played = asyncio.run(attempts(Service().gate(), lambda n: trajectory(failed=True, searches=3)))
    assert reasons(played) == ["retriever_error"] * ATTEMPTS


def test_a_poison_question_behind_a_step_of_good_ones_is_handed_on():
    gate = Service().gate()

    async def step():
        for _ in range(63):
            await attempts(gate, lambda n: trajectory())
        return await attempts(gate, lambda n: trajectory(failed=True))

    assert reasons(asyncio.run(step())) == ["retriever_error"] * ATTEMPTS
