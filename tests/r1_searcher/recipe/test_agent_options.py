"""An agent of the user's on the command line, in a recipe, and in what is written of it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

from eval.play.options import contestant_of
from eval.play.options import parser as eval_parser
from foundation.errors import InputError
from r1_searcher.own_agent.agents import COMMAND, OwnAgent
from r1_searcher.recipe.options import add_recipe_options, changed_recipe, check_agent
from r1_searcher.recipe.protocols import OWN_AGENT
from r1_searcher.recipe.recipe import RECIPES, Recipe, find_recipe
from r1_searcher.run.trained_with import TrainedWith

EXAMPLE = "train_scripts/own_agent/search_agent.py:search_agent"


def recipe_of(name: str, *words: str) -> Recipe:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_recipe_options(parser, RECIPES)
    return changed_recipe(find_recipe(name), parser.parse_args(["--recipe", name, *words]))


def test_a_recipe_remembers_its_agent_by_a_path_that_other_processes_find(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[3])
    recipe = recipe_of("own_agent", "--agent", EXAMPLE, "--agent-seconds", "90")
    assert recipe.agent == OwnAgent(f"{Path.cwd() / EXAMPLE}", 90.0)
    assert Recipe.from_mapping(recipe.to_mapping()) == recipe
    assert recipe_of("tiny.deep_researcher", "--agent-command", "sh -c true").agent == OwnAgent(f"{COMMAND}sh -c true")


def test_the_model_remembers_it(tmp_path):
    recipe = recipe_of("own_agent", "--agent-command", "sh -c true")
    TrainedWith(recipe, (), "base", 3).write(tmp_path)
    found = TrainedWith.read(tmp_path)
    assert found is not None and found.recipe == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_without_one_are_written_as_before(name):
    assert "agent" not in find_recipe(name).to_mapping()
    assert Recipe.from_mapping(find_recipe(name).to_mapping()).agent is None


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--agent", "a.py:f", "--agent-command", "sh"], "give either"),
        (["--agent", "a.py:f"], "is not there"),
        (["--agent-command", "no-such-program"], "no program"),
        (["--agent-command", "sh", "--prompt-file", __file__], "writes its own prompts"),
    ],
)
def test_what_cannot_be_is_said(words, why):
    with pytest.raises(InputError, match=why):
        recipe_of("own_agent", *words)


def test_its_recipe_needs_one():
    with pytest.raises(InputError, match="give --agent or --agent-command"):
        check_agent(find_recipe("own_agent"))
    renamed = replace(find_recipe("own_agent"), protocol=replace(OWN_AGENT, name="plugin.agent"))
    with pytest.raises(InputError, match="give --agent or --agent-command"):
        check_agent(renamed)
    words = ["--model", "m", "--data", "d", "--out", "o", "--agent-command", "sh"]
    with pytest.raises(InputError, match="leave out --agent"):
        contestant_of(eval_parser(None).parse_args([*words, "--recipe", "tiny.rag"]))
    contestant = contestant_of(eval_parser(None).parse_args([*words, "--recipe", "own_agent"]))
    assert contestant.recipe.agent == OwnAgent(f"{COMMAND}sh")
