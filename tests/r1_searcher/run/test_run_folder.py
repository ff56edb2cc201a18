"""Run folders: whose they are, and what a resumed run finds there."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from support.runs.run_folders import RUN_OF_AN_EARLIER_VERSION

from foundation.errors import InputError
from r1_searcher.episode.question import QARow
from r1_searcher.host import command
from r1_searcher.host.command import build_command
from r1_searcher.host.device import Device
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.recipe.schedule import Switch
from r1_searcher.run import run_folder
from r1_searcher.run.episode_log import RunAttempt
from r1_searcher.run.run_config import RetrieverConfig, RunConfig
from r1_searcher.run.run_folder import RunFolder, identity_of

ROWS = [
    QARow("q1", "Who was Alû?", ("a spirit",), source="tiny", hops=2),
    QARow("q2", 'A "b"\nc?', ("x", "y")),
]
RECIPE = find_recipe("tiny.stage1").to_mapping()
FLAGS = ["--train.seed", "42", "--actor.adam.lr", "7e-4"]


@pytest.fixture
def identity():
    return identity_of(RECIPE, ROWS, FLAGS)


def test_a_new_folder_becomes_a_run(tmp_path, identity):
    folder = RunFolder(tmp_path / "runs" / "new")
    folder.check_owner(identity)
    assert not folder.path.exists(), "checking writes nothing"
    folder.prepare(identity, ROWS)
    assert json.loads((folder.path / "identity.json").read_text()) == identity
    assert not folder.is_complete and folder.last_step == 0
    folder.check_owner(identity)


def test_the_hosts_dataset_holds_the_questions_and_the_whole_rows(tmp_path, identity):
    folder = RunFolder(tmp_path)
    folder.prepare(identity, ROWS)
    text = (tmp_path / "data" / "train.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["input"] for row in rows] == [row.question for row in ROWS]
    assert [QARow.from_json(row["label"]) for row in rows] == ROWS


def test_attempts_are_counted(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.attempts == ()
    for step in (0, 100, 100):
        earlier = folder.attempts
        run = RunConfig(str(tmp_path), find_recipe("tiny.stage1"), RetrieverConfig("http://x"), "", step, earlier)
        run.write(folder.config_file)
        assert RunConfig.read(folder.config_file).attempt == RunAttempt(len(earlier) + 1, step)
    assert folder.attempts == (0, 100, 100)


def test_a_run_of_an_earlier_version_had_an_attempt(tmp_path):
    (tmp_path / "run.json").write_text('{"first_step": 100}')
    assert RunFolder(tmp_path).attempts == (100,)


def test_an_empty_folder_is_free(tmp_path, identity):
    RunFolder(tmp_path).check_owner(identity)


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "model"])
def test_a_folder_with_other_things_is_refused(tmp_path, identity, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="holds no run; choose another --run-dir"):
        RunFolder(tmp_path).check_owner(identity)


def test_a_file_is_refused(tmp_path, identity):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file; choose another --run-dir"):
        RunFolder(tmp_path / "file").check_owner(identity)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (
            identity_of({**RECIPE, "reward": "r1_searcher.stage2"}, ROWS, FLAGS),
            ["recipe", "r1_searcher.stage2"],
        ),
        (identity_of(RECIPE, ROWS[:1], FLAGS), ["questions"]),
        (identity_of(RECIPE, ROWS[::-1], FLAGS), ["questions_sha256"]),
        (identity_of(RECIPE, ROWS, [*FLAGS[:3], "1e-6"]), ["--actor.adam.lr", "7e-4", "1e-6"]),
        (identity_of(RECIPE, ROWS, FLAGS[:2]), ["--actor.adam.lr", "7e-4"]),
    ],
)
def test_another_run_is_refused_and_the_difference_named(tmp_path, identity, other, named):
    folder = RunFolder(tmp_path)
    folder.prepare(identity, ROWS)
    with pytest.raises(InputError, match="holds another run") as caught:
        folder.check_owner(other)
    message = str(caught.value)
    assert all(word in message for word in named) and "--run-dir" in message and "\n" not in message


def test_flags_that_do_not_differ_are_not_repeated(tmp_path, identity):
    folder = RunFolder(tmp_path)
    folder.prepare(identity, ROWS)
    with pytest.raises(InputError) as caught:
        folder.check_owner(identity_of(RECIPE, ROWS, [*FLAGS[:3], "1e-6"]))
    assert "--train.seed" not in str(caught.value)


def test_the_order_of_flags_makes_no_other_run(tmp_path, identity):
    folder = RunFolder(tmp_path)
    folder.prepare(identity, ROWS)
    folder.check_owner(identity_of(RECIPE, ROWS, [*FLAGS[2:], *FLAGS[:2]]))


def test_a_run_goes_on_where_its_folder_and_the_package_have_been_moved(tmp_path, monkeypatch):
    recipe = find_recipe("tiny.stage1")
    flags = ["--actor.model_name_or_path", "m"]

    def identity_in(folder):
        return identity_of(RECIPE, ROWS, build_command(recipe, folder.path, flags, Device.CPU).argv)

    before, after = RunFolder(tmp_path / "before"), RunFolder(tmp_path / "elsewhere" / "after")
    before.prepare(identity_in(before), ROWS)
    shutil.copytree(before.path, after.path)
    monkeypatch.setattr(command, "AGENT_FILE", tmp_path / "another checkout" / "agent.py")
    after.check_owner(identity_in(after))
    flags += ["--train.seed", "7"]
    with pytest.raises(InputError, match=r"another run \(flags --train.seed: there None, here '7'\)"):
        after.check_owner(identity_in(after))


def test_identity_survives_json_for_every_recipe(tmp_path):
    from r1_searcher.recipe.recipe import RECIPES

    for name, recipe in RECIPES.items():
        folder, identity = RunFolder(tmp_path / name), identity_of(recipe.to_mapping(), ROWS, FLAGS)
        folder.prepare(identity, ROWS)
        folder.check_owner(identity)


def test_a_run_killed_in_its_first_moments_can_be_started_again(tmp_path, identity, monkeypatch):
    """Whatever write of `prepare` is the last one before a kill -9, the same command continues."""

    class Killed(BaseException):
        pass

    replace = os.replace
    for survived in range(2):
        folder = RunFolder(tmp_path / str(survived))
        writes = iter(range(10))

        def stops_early(draft, path, writes=writes, survived=survived):
            if next(writes) == survived:
                shutil.copy(
                    draft, draft.with_name(f"{draft.name.removesuffix('.draft')}left.draft")
                )  # a kill leaves it
                raise Killed
            replace(draft, path)

        monkeypatch.setattr(os, "replace", stops_early)
        with pytest.raises(Killed):
            folder.prepare(identity, ROWS)
        monkeypatch.setattr(os, "replace", replace)
        folder.check_owner(identity)
        folder.prepare(identity, ROWS)
        assert (folder.path / "data" / "train.jsonl").is_file()


@pytest.mark.parametrize(("latest", "step"), [("global_step20", 20), ("global_step7\n", 7)])
def test_the_last_step_is_the_newest_checkpoints(tmp_path, latest, step):
    actor = tmp_path / "checkpoints" / "_actor"
    (actor / latest.strip()).mkdir(parents=True)
    assert RunFolder(tmp_path).last_step == 0, "a checkpoint counts once DeepSpeed has named it"
    (actor / "latest").write_text(latest)
    assert RunFolder(tmp_path).last_step == step


def test_the_complete_marker(tmp_path, identity):
    folder = RunFolder(tmp_path)
    folder.prepare(identity, ROWS)
    folder.mark_complete()
    folder.mark_complete()
    assert folder.is_complete
    folder.check_owner(identity)


def test_docstring_and_docs_list_every_path(tmp_path):
    """The properties of `RunFolder` are the list; no other module spells these names."""
    folder = RunFolder(tmp_path)
    named = {
        getattr(folder, name).relative_to(tmp_path).parts[0]
        for name, value in vars(RunFolder).items()
        if isinstance(value, property) and value.fget.__annotations__["return"] == "Path"
    }
    architecture = (Path(__file__).parents[3] / "docs" / "architecture.md").read_text(encoding="utf-8")
    for text in (
        run_folder.__doc__,
        architecture.partition("## A run folder")[2].partition("```\n")[2].partition("```")[0],
    ):
        listed = {line.split()[0].partition("/")[0] for line in text.splitlines() if re.match(r"[a-z]\S+  +\S", line)}
        assert listed == named


def test_a_run_of_an_earlier_version_is_the_same_run(tmp_path):
    """What `run.json` and `identity.json` held before recipes held their protocol and rewards themselves."""
    run = RunConfig.from_mapping(RUN_OF_AN_EARLIER_VERSION)
    assert run.recipe.to_mapping() == RUN_OF_AN_EARLIER_VERSION["recipe"]
    assert (run.retriever.source, run.plugins, run.recipe.switch) == ("http://h:1", (), Switch(held=3))
    assert run.recipe.protocol.prompt == "Mine : {question}\n"
    run.write(tmp_path / "run.json")
    assert RunConfig.read(tmp_path / "run.json") == run
