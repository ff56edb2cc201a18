"""Plugins: what is registered, from where it is loaded, and what is refused."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import pytest

from foundation.errors import InputError
from r1_searcher.episode.limits import Limits
from r1_searcher.recipe.plugins import add_plugin_option, load_plugin, register
from r1_searcher.recipe.protocols import PROTOCOLS, SEARCH_R1
from r1_searcher.recipe.recipe import RECIPES, Recipe
from r1_searcher.reward.rewards import REWARDS, compose


@pytest.fixture(autouse=True)
def tables():
    """Rows that a test adds are gone after it."""
    before = [(table, dict(table)) for table in (PROTOCOLS, REWARDS, RECIPES)]
    yield
    for table, rows in before:
        table.clear()
        table.update(rows)


def test_a_recipe_brings_its_protocol_and_a_composed_reward_needs_no_row():
    own = replace(SEARCH_R1, name="own")
    recipe = Recipe("own", own, compose("f1=1,format_broken=-2"), Limits(1, 9, 99, 1))
    register(recipe)
    register(recipe)  # the same row again
    assert PROTOCOLS["own"] is own and not any("=" in name for name in REWARDS)
    assert Recipe.from_mapping(recipe.to_mapping()) == recipe


def test_a_taken_name_is_refused():
    with pytest.raises(InputError, match="protocol 'search_r1' exists already"):
        register(protocol=replace(SEARCH_R1, boxed=True))


def test_files_and_modules_are_loaded_once(tmp_path, monkeypatch):
    text = "from support import plugin_loads\nplugin_loads.append(__name__)\n"
    loads: list[str] = []
    monkeypatch.setattr("support.plugin_loads", loads, raising=False)
    (tmp_path / "one.py").write_text(text)
    package = tmp_path / "own_systems"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "two.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    add_plugin_option(parser)
    given = ["--plugin", "one.py", "--plugin", "own_systems.two", "--plugin", str(tmp_path / "one.py")]
    assert parser.parse_args(given).plugins == (str(tmp_path / "one.py"), "own_systems.two")
    assert len(loads) == 2 and loads[1] == "own_systems.two"
    sys.modules.pop("own_systems.two")


@pytest.mark.parametrize(
    ("text", "message"), [(None, "plugin not found"), ("1 / 0", "ZeroDivisionError"), ("import no_such", "'no_such'")]
)
def test_a_bad_plugin_is_one_clear_error(tmp_path, text, message):
    file = tmp_path / "bad.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_plugin(file)


def test_a_missing_module_is_one_clear_error():
    with pytest.raises(InputError, match="there is no module 'no_such_systems'"):
        load_plugin("no_such_systems.haiku")
