"""The command line of the service: which models with which recipes, and what is refused in one line."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.processes.commands import status_of

from r1_searcher.agent_service import command
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.run.trained_with import TrainedWith
from r1_searcher.serve import main

MODEL = Path(__file__).resolve().parents[3] / "data_prep" / "tiny" / "model"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def handlers():
    """What the service does with signals is not this process's."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def trained(tmp_path) -> Path:
    """A folder that says what its model was trained with."""
    TrainedWith(find_recipe("tiny.stage1"), (), "base", 7).write(tmp_path)
    return tmp_path


def played(*options: object) -> dict[str, str]:
    """The recipe of each model."""
    given = command.parser().parse_args(["--agent", "--search", NOBODY, *map(str, options)])
    return {name: recipe.name for name, (_, recipe, _) in command.models_by_name(given).items()}


def test_a_model_is_asked_as_it_was_trained_and_another_like_it(trained):
    models = ("--model", f"base={MODEL}", "--model", trained)
    assert played(*models) == {"base": "tiny.stage1", str(trained): "tiny.stage1"}
    assert played(*models, "--recipe", "tiny.stage2") == {"base": "tiny.stage2", str(trained): "tiny.stage2"}


def test_models_side_by_side_have_processes_of_their_own(trained):
    given = command.parser().parse_args(["--agent", "--search", NOBODY, f"--model={trained}", f"--model=b={MODEL}"])
    models = [model for model, _, _ in command.models_by_name(given).values()]
    assert [(model.place, model.of) for model in models] == [(0, 2), (1, 2)]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([f"--model={MODEL}", f"--search={NOBODY}"], "give --recipe"),
        ([f"--model=a={MODEL}", "--model=a=b", f"--search={NOBODY}"], "two models have one name"),
        ([f"--model={MODEL}", "--recipe=tiny.stage2"], "give --search"),
        ([f"--model={MODEL}", "--recipe=tiny.stage2", f"--search={NOBODY}"], "does not answer"),
        ([f"--model={MODEL}", "--recipe=none", f"--search={NOBODY}"], "unknown recipe"),
        ([f"--model={MODEL}", "--recipe=tiny.stage2", f"--search={NOBODY}", "--token-file=/nowhere"], "--token-file"),
        ([f"--model={MODEL}", "--recipe=tiny.stage2", f"--search={NOBODY}", "--port=70000"], "expected a port"),
    ],
)
def test_bad_input_is_one_line_and_status_2(options, complaint, capsys, tmp_path):
    assert status_of(main, "--agent", "--store", tmp_path / "store", *options) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
