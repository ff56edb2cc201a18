"""What a run's configuration says of itself."""

from __future__ import annotations

import stat

import pytest

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
