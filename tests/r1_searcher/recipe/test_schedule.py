"""When the second stage begins, and that a resumed run continues where it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InputError
from r1_searcher.recipe.recipe import RECIPES, Recipe
from r1_searcher.recipe.schedule import Batches, Progress, Switch, read_steps
from r1_searcher.reward.rewards import find_reward

BATCHES = Batches(per_step=4, per_pass=400)
STEPS = 10


def play_steps(progress, rates):
    """One (retrieved, in format) for all episodes of each step; gives the stage of each step's episodes."""
    stages = []
    for good in rates:
        tickets = [progress.begin() for _ in range(BATCHES.per_step)]
        assert len({(ticket.step, ticket.stage) for ticket in tickets}) == 1
        stages.append(tickets[0].stage)
        for _ in tickets:
            progress.end([(good, good)] * 2)
    return stages


def new(tmp_path, switch, first_step=0):
    return Progress(BATCHES, STEPS, Switch.parse(switch) if switch else None, tmp_path / "p.jsonl", first_step)


@pytest.mark.parametrize(
    ("switch", "good", "stages"),
    [
        ("step:3", [0] * 6, [1, 1, 1, 2, 2, 2]),
        ("fraction:0.2", [0] * 4, [1, 1, 2, 2]),
        ("held:2", [1, 0, 1, 1, 1], [1, 1, 1, 1, 2]),
        ("held:3", [0] * 5, [1] * 5),
        ("held:1", [1, 0, 0], [1, 2, 2]),  # never back
        ("", [1] * 3, [1, 1, 1]),
    ],
)
def test_stages(tmp_path, switch, good, stages):
    assert play_steps(new(tmp_path, switch), good) == stages


def test_the_fraction_is_the_step_over_all_steps(tmp_path):
    progress = new(tmp_path, "")
    fractions = []
    for _ in range(STEPS + 1):
        fractions.append(progress.begin().fraction)
        play_steps(progress, [1])
    assert fractions == [step / STEPS for step in range(1, STEPS + 1)] + [1.0]


@given(done=st.integers(0, 6), good=st.lists(st.booleans(), min_size=8, max_size=8))
def test_a_resumed_run_goes_on_with_the_same_stage_and_fraction(tmp_path_factory, done, good):
    """Killed after step 7 and resumed from the checkpoint of step `done`: as if it had never been killed."""
    folder = tmp_path_factory.mktemp("run")
    whole = play_steps(new(folder, "held:2"), good)
    resumed = new(folder, "held:2", first_step=done)
    assert [step.step for step in read_steps(folder / "p.jsonl")] == list(range(1, done + 1))
    assert play_steps(resumed, good[done:]) == whole[done:]
    assert resumed.begin().fraction == min((len(good) + 1) / STEPS, 1)


def test_a_half_written_line_is_left_out(tmp_path):
    play_steps(new(tmp_path, "held:2"), [1, 1, 1])
    file = tmp_path / "p.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    assert [step.step for step in read_steps(file)] == [1, 2]


def test_a_question_that_is_filtered_out_is_not_counted(tmp_path):
    progress = new(tmp_path, "held:1")
    for kept in (True, False, True, False, True):
        progress.end([(kept, kept)], kept=kept)
    assert progress.begin().step == 1
    progress.end([(True, True)])
    (line,) = (json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines())
    assert line == {"step": 1, "stage": 1, "retrieval": 1.0, "format": 1.0, "drawn": 6}
    assert (progress.begin().step, progress.begin().stage) == (2, 2)


def test_notes_of_earlier_versions_do_not_say_what_was_drawn(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"step": 1, "stage": 1, "retrieval": 1.0, "format": 1.0}\n')
    progress = Progress(Batches(4, 8), STEPS, None, tmp_path / "p.jsonl", first_step=1)
    for kept in (True, True, True, False):  # the end of the pass: these three are not trained on
        assert progress.begin().step == 2
        progress.end([(True, True)], kept=kept)
    for _ in range(4):
        assert progress.begin().step == 2
        progress.end([(True, True)])
    assert progress.begin().step == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "step",
        "step:0",
        "step:-1",
        "step:x",
        "fraction:0",
        "fraction:1",
        "fraction:2",
        "held:0",
        "soon:3",
        "held:1,x=1",
        "step:12,held=3",
        "step:12,retrieval=0.9",
        "fraction:0.5,format=0.9",
        "held:3,step=12",
        "held:3,held=2",
        "held:3,retrieval=0.9,retrieval=0.8",
        "held:3.0",
        "held:3,",
        "retrieval:0.9",
    ]
    + ["held:2,retrieval=1.5", "held:2,format=-1", "held:2,retrieval=nan"],
)
def test_a_switch_that_never_takes_place_is_refused(text):
    with pytest.raises(InputError, match="switch"):
        Switch.parse(text)


@pytest.mark.parametrize(
    "text", ["step:12", "fraction:0.25", "held:3", "held:3,retrieval=0.9", "held:2,retrieval=0.9,format=0.5"]
)
def test_a_switch_is_written_as_it_is_read(text):
    assert str(Switch.parse(text)) == text


RATES = st.floats(0, 1)
SWITCHES = (
    st.builds(Switch, step=st.integers(1, 10**9))
    | st.builds(Switch, fraction=st.floats(0, 1, exclude_min=True, exclude_max=True))
    | st.builds(Switch, held=st.integers(1, 10**9), retrieval=RATES, format=RATES)
)
NAMES = st.sampled_from(["step", "fraction", "held", "retrieval", "format", "x", ""])
NUMBERS = st.sampled_from(["1", "12", "0", "0.5", "3.0", "-1", "nan", "1e-7", ""])
PIECES = st.builds("".join, st.tuples(NAMES, st.sampled_from(":="), NUMBERS))


@given(switch=SWITCHES)
def test_any_switch_survives_its_text(switch):
    assert Switch.parse(str(switch)) == switch


@given(pieces=st.lists(PIECES, max_size=3))
def test_any_text_is_a_switch_of_one_kind_or_refused(pieces):
    try:
        switch = Switch.parse(",".join(pieces))
    except InputError:
        return
    assert [bool(switch.step), bool(switch.fraction), bool(switch.held)].count(True) == 1
    assert Switch.parse(str(switch)) == switch


def test_a_second_reward_needs_its_switch():
    recipe = RECIPES["tiny.stage1"]
    for changes in ({"then_reward": find_reward("r1_searcher.stage2")}, {"switch": Switch(held=3)}):
        with pytest.raises(InputError, match="belong together"):
            Recipe(recipe.name, recipe.protocol, recipe.reward, recipe.limits, **changes)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_survives_json(recipe):
    assert Recipe.from_mapping(json.loads(json.dumps(recipe.to_mapping()))) == recipe
