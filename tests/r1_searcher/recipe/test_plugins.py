"""A system of the user's own, in one file: the one that docs/add_a_protocol.md adds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.fakes import ByteTokenizer, passages, play

from foundation.errors import InputError
from r1_searcher.episode.trajectory import SpanKind, StopReason
from r1_searcher.recipe.plugins import load_plugin, register
from r1_searcher.recipe.protocols import PROTOCOLS, SEARCH_R1
from r1_searcher.recipe.recipe import RECIPES
from r1_searcher.reward.rewards import REWARDS, score
from r1_searcher.run.run_config import RetrieverConfig, RunConfig

PAGE = Path(__file__).parents[3] / "docs" / "add_a_protocol.md"


@pytest.fixture
def plugin(tmp_path):
    """The file of the page; its rows are gone after the test."""
    tables = [(table, dict(table)) for table in (PROTOCOLS, REWARDS, RECIPES)]
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "haiku_search.py"
    file.write_text(code, encoding="utf-8")
    yield file
    for table, rows in tables:
        table.clear()
        table.update(rows)
    sys.modules.pop("r1_searcher_plugin_haiku_search", None)


def test_the_system_of_the_page_fits_in_sixty_lines(plugin):
    assert len(plugin.read_text().splitlines()) < 60


def test_it_plays_and_is_rewarded(plugin):
    load_plugin(plugin)
    recipe = RECIPES["haiku_search"]
    tokenizer = ByteTokenizer(recipe.protocol_spec.tags)
    played = play(
        ["[hm] where? [/hm] [ask] tower [/ask]", "[is] Paris [/is]"],
        passages("It stands in Paris."),
        protocol=recipe.protocol_spec,
        limits=recipe.limits,
        tokenizer=tokenizer,
    )
    trajectory = played.trajectory
    assert (trajectory.stop_reason, trajectory.answer) == (StopReason.ANSWERED, "Paris")
    assert played.texts(SpanKind.DOCUMENTS) == ["\n[found]\n1. T1 It stands in Paris.\n[/found]\n"]
    assert score(recipe.reward_spec, trajectory, recipe.protocol_spec).total == pytest.approx(1.3)


def test_every_process_of_a_run_knows_its_rows(plugin, tmp_path):
    load_plugin(plugin)
    config = RunConfig(str(tmp_path), RECIPES["haiku_search"], RetrieverConfig("http://x"), plugin=str(plugin))
    config.write(tmp_path / "run.json")
    code = "import sys; from r1_searcher.run.run_config import RunConfig as R; print(R.read(sys.argv[1]).recipe.reward)"
    command = [sys.executable, "-c", code, str(tmp_path / "run.json")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "haiku_search.f1\n"


def test_the_command_of_the_page_is_accepted(plugin, tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps({"question": "Where?", "answers": ["Paris"]}) + "\n")
    options = ["--plugin", str(plugin), "--recipe", "haiku_search", "--run-dir", "run", "--data", "train.jsonl"]
    options += ["--retriever-url", "http://127.0.0.1:8000", "--actor.model_name_or_path", "m", "--dry-run"]
    command = [sys.executable, "-m", "r1_searcher.train", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "--data.max_len 4096" in done.stdout, done.stderr


def test_a_taken_name_is_refused():
    with pytest.raises(InputError, match="protocol 'search_r1' exists already"):
        register(protocol=type(SEARCH_R1)(**{**vars(SEARCH_R1), "boxed": True}))


@pytest.mark.parametrize(("text", "message"), [(None, "plugin not found"), ("1 / 0", "ZeroDivisionError")])
def test_a_bad_plugin_is_one_clear_error(tmp_path, text, message):
    file = tmp_path / "bad.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_plugin(file)
