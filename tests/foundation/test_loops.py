"""Objects of one event loop, and equal questions that are asked once."""

from __future__ import annotations

import asyncio

import pytest

from foundation.loops import AskedOnce, PerLoop


def test_each_loop_has_its_own_object():
    made = PerLoop(object)

    async def twice():
        return made.get(), made.get()

    first, again = asyncio.run(twice())
    other, _ = asyncio.run(twice())
    assert first is again is not other

    async def popped():
        return made.pop(), made.get(), made.pop(), made.pop()

    nothing, made_now, given, gone = asyncio.run(popped())
    assert nothing is gone is None and made_now is given


class Oracle:
    """Answers after a moment; counts the questions."""

    def __init__(self, failure=None):
        self.failure, self.asked = failure, []

    async def answer(self, question):
        self.asked.append(question)
        await asyncio.sleep(0.05)
        if self.failure is not None:
            raise self.failure
        return question.upper()


def test_equal_questions_at_the_same_time_are_one():
    oracle, once = Oracle(), AskedOnce()

    async def scenario():
        answers = await asyncio.gather(*(once.ask(q, lambda q=q: oracle.answer(q)) for q in "aabab"))
        return answers, await once.ask("a", lambda: oracle.answer("a"))

    assert asyncio.run(scenario()) == (list("AABAB"), "A") and oracle.asked == ["a", "b", "a"]


def test_who_gives_up_does_not_take_the_answer_from_the_others():
    oracle, once = Oracle(), AskedOnce()

    async def scenario():
        first, second = (asyncio.create_task(once.ask("a", lambda: oracle.answer("a"))) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert asyncio.run(scenario()) == "A" and oracle.asked == ["a"]


def test_all_who_wait_see_the_failure_and_the_next_one_asks_anew():
    oracle, once = Oracle(ValueError("no")), AskedOnce()

    async def scenario():
        failures = await asyncio.gather(
            *(once.ask("a", lambda: oracle.answer("a")) for _ in range(2)), return_exceptions=True
        )
        assert [type(each) for each in failures] == [ValueError, ValueError]
        with pytest.raises(ValueError, match="no"):
            await once.ask("a", lambda: oracle.answer("a"))

    asyncio.run(scenario())
    assert oracle.asked == ["a", "a"]
