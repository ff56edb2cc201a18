"""Turns that are written beforehand."""

from __future__ import annotations

import asyncio

from support.episodes.fakes import EOS, ByteTokenizer

from r1_searcher.episode.policy import Completion, Finish
from r1_searcher.episode.scripted_policy import ScriptedPolicy

TOKENIZER = ByteTokenizer()
STOPS = ("</q>", "</tool>")


class Echo:
    async def generate(self, ids, *, stops, max_tokens) -> Completion:
        return Completion((*ids, max_tokens, len(stops)), Finish.LENGTH)


def turns(policy: ScriptedPolicy, count: int) -> list[Completion]:
    async def all_turns() -> list[Completion]:
        return [await policy.generate([n], stops=STOPS, max_tokens=1) for n in range(count)]

    return asyncio.run(all_turns())


def ids(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text))


def test_written_turns_are_played_once_and_the_policy_after_them():
    first, second, third = turns(ScriptedPolicy(TOKENIZER, ["ask</q>"], then=Echo()), 3)
    assert first == Completion(ids("ask</q>"), Finish.STOP), "whole, though the budget is one token"
    assert (second, third) == (Completion((1, 1, 2), Finish.LENGTH), Completion((2, 1, 2), Finish.LENGTH))


def test_a_turn_ends_as_an_engine_would_end_it():
    found = turns(ScriptedPolicy(TOKENIZER, ["call</tool>", "say", f"said{EOS}", "</q> on"]), 4)
    assert found == [
        Completion(ids("call</tool>"), Finish.STOP),
        Completion(ids(f"say{EOS}"), Finish.EOS),
        Completion(ids(f"said{EOS}"), Finish.EOS),
        Completion(ids(f"</q> on{EOS}"), Finish.EOS),
    ]


def test_beyond_the_last_turn_nothing_is_said():
    assert turns(ScriptedPolicy(TOKENIZER, []), 1) == [Completion(ids(EOS), Finish.EOS)]
