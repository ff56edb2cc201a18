"""Trajectories to JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.episodes.fakes import ask, passages, play, say

from r1_searcher.episode.trajectory_json import from_mapping, to_mapping
from r1_searcher.recipe.protocols import R1_SEARCHER_BASE, R1_SEARCHER_TINY
from r1_searcher.reward.rewards import REWARDS, score
from retriever.errors import RetrieverTimeout

EPISODES = {
    "answered": lambda: play([ask("q", "ünï "), say("Paris")], passages("東", "b")),
    "no logprobs": lambda: play([ask("q"), say("x")], passages("p"), with_logprobs=False),
    "failed": lambda: play([ask("q")], RetrieverTimeout("slow")),
    "no answer": lambda: play(["nothing"]),
    "feedback": lambda: play([ask(""), say("x")], protocol=replace(R1_SEARCHER_TINY, forgiving=True, feedback="again")),
    "base": lambda: play([ask("q"), say("x")], (), protocol=R1_SEARCHER_BASE),
}


def through_json(mapping):
    return json.loads(json.dumps(mapping))


@pytest.mark.parametrize("name", EPISODES)
def test_round_trip(name):
    trajectory = EPISODES[name]().trajectory
    again = from_mapping(through_json(to_mapping(trajectory)))
    assert again == replace(
        trajectory,
        seconds=round(trajectory.seconds, 4),
        engine_seconds=round(trajectory.engine_seconds, 4),
        logprobs=trajectory.logprobs and tuple(round(value, 5) for value in trajectory.logprobs),
    )


@pytest.mark.parametrize("name", EPISODES)
def test_without_ids_the_reward_is_the_same(name):
    played = EPISODES[name]()
    mapping = through_json(to_mapping(played.trajectory, with_ids=False))
    assert "ids" not in mapping and "logprobs" not in mapping
    again = from_mapping(mapping)
    assert again.ids == () and again.logprobs is None and again.spans == played.trajectory.spans
    for reward in REWARDS.values():
        protocol = played.environment.protocol
        assert score(reward, again, protocol) == score(reward, played.trajectory, protocol)


@pytest.mark.parametrize(
    "broken",
    [
        {"spans": [["nobody", 0, 1, "x"]]},
        {"spans": [["action", 0, 1]]},
        {"stop_reason": "bored"},
        {"row": {}},
        {"ids": ["x"]},
        {"searches": [{"query": "q"}]},
    ],
)
def test_foreign_objects_are_refused(broken):
    mapping = to_mapping(EPISODES["answered"]().trajectory)
    with pytest.raises((ValueError, KeyError)):
        from_mapping({**mapping, **broken})


def test_missing_keys_are_refused():
    mapping = to_mapping(EPISODES["answered"]().trajectory)
    for key in ("row", "spans", "stop_reason", "answer"):
        with pytest.raises((KeyError, ValueError), match=key):
            from_mapping({name: value for name, value in mapping.items() if name != key})
