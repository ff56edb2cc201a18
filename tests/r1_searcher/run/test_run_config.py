"""What a run's configuration says of itself."""

from __future__ import annotations

import json
import stat

import pytest

from foundation.errors import InputError
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.run.run_config import RetrieverConfig, RunConfig


@pytest.mark.parametrize(
    ("source", "counts"),
    [
        ("http://127.0.0.1:8000", False),
        ("simulate:http://127.0.0.1:6001/v1?noise=0:0.5", True),
        ("record:searches.jsonl|simulate:http://127.0.0.1:6001/v1", True),
        ("record:searches.jsonl|http://127.0.0.1:8000", False),
    ],
)
def test_a_curriculum_of_the_search_engine_counts_progress(source, counts):
    run = RunConfig("run", find_recipe("tiny.stage2"), RetrieverConfig(source))
    assert run.counts_progress == counts


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_share_of_the_questions_is_logged_and_another_one_in_each_step(share):
    run = RunConfig("run", find_recipe("tiny.stage2"), RetrieverConfig("http://h"), logged_share=share)
    logged = [{question for question in range(1000) if run.logs(step, f"q{question}")} for step in (1, 2)]
    assert all(abs(len(found) / 1000 - share) < 0.05 for found in logged)
    assert len(logged[0] & logged[1]) < 1.5 * share**2 * 1000


def test_everything_is_logged_unless_told_otherwise():
    run = RunConfig("run", find_recipe("tiny.stage2"), RetrieverConfig("http://h"))
    assert all(run.logs(step, f"q{step}") for step in range(100))


def test_only_the_user_can_read_a_runs_configuration(tmp_path):
    """An address may hold a key."""
    run = RunConfig("run", find_recipe("tiny.stage2"), RetrieverConfig("web:serper?url=http://h/x"))
    run.write(tmp_path / "run.json")
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == 0o600
    assert RunConfig.read(tmp_path / "run.json") == run


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"samples_per_question": "8"}, "samples_per_question: Expected `int`, got `str`"),
        ({"logged_share": None}, "logged_share: Expected `float`"),
        ({"first_step": 1.5}, "first_step: Expected `int`"),
        ({"earlier_attempts": ["0"]}, "earlier_attempts: Expected `int`"),
        ({"plugins": [3]}, "not"),
        ({"reward_url": 5}, "reward_url: Expected `str`"),
        ({"judge": {"url": "http://h", "model": 3}}, r"judge: Expected `str`, got `int` - at `\$.model`"),
        ({"question_filter": {"between": [1]}}, "question_filter: "),
        ({"retriever": {"source": 3}}, r"Expected `str`, got `int` - at `\$.source`"),
        ({"retriever": None}, "Expected `object`, got `null`"),
        ({"sample_per_question": 8}, "sample_per_question"),
        ({"recipe": {}}, "missing required field `name`"),
        ({"recipe": 3}, "Expected `object`, got `int`"),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_named(tmp_path, changes, named):
    file = tmp_path / "run.json"
    RunConfig("run", find_recipe("tiny.stage2"), RetrieverConfig("http://h")).write(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(InputError, match=named) as refused:
        RunConfig.read(file)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [{"train_on_documents": "no"}, {"prompt": 3}, {"switch": 3}, {"agent": {"where": 3}}, {"protocol": ["a"]}],
    ids=str,
)
def test_a_value_of_a_recipe_is_named(tmp_path, changes):
    file = tmp_path / "run.json"
    RunConfig("run", find_recipe("tiny.stage2"), RetrieverConfig("http://h")).write(file)
    written = json.loads(file.read_text())
    file.write_text(json.dumps({**written, "recipe": written["recipe"] | changes}))
    with pytest.raises(InputError, match=rf"run\.json is no configuration of a run.*\$\.{next(iter(changes))}"):
        RunConfig.read(file)
