"""OpenRLHF's flags: our light copy of its parser, and merging of layers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from foundation.errors import InputError
from r1_searcher.host.flags import merge_flags, parse_flags, trainer_parser


@pytest.mark.slow
def test_the_parser_is_the_installed_modules_own(run, environment):
    done = run(
        [sys.executable, Path(__file__).parents[2] / "support/processes/run_host_cli.py"],
        input=json.dumps([["--actor.model_name_or_path", "m", "--algo.advantage.estimator", "reinforce"]]),
        env={**environment, "R1_SEARCHER_CPU": "1", "DS_ACCELERATOR": "cpu"},
        timeout=300,
    )
    assert done.status == 0, done.err[-3000:]
    theirs = json.loads(done.out.split("RESULT ")[1])[0]["parser"]
    ours = [
        [action.option_strings, action.dest, repr(action.default), repr(action.nargs), repr(action.choices),
         getattr(action.type, "__name__", None), type(action).__name__]
        for action in trainer_parser()._actions
    ]  # fmt: skip
    assert [row[0] for row in ours] == [row[0] for row in theirs]
    run_name = ["--logger.wandb.run_name"]  # its default is the time of the call
    assert [row for row in ours if row[0] != run_name] == [row for row in theirs if row[0] != run_name]


def test_reading_the_parser_imports_nothing_heavy(run):
    program = (
        "import sys; from r1_searcher.host.flags import parse_flags; parse_flags([]); "
        "print(sorted({'torch', 'ray', 'vllm', 'deepspeed', 'openrlhf'} & set(sys.modules)))"
    )
    done = run([sys.executable, "-c", program])
    assert done.out.strip() == "[]" and done.err == ""


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--actor.model_nam_or_path", "m"], "--actor.model_nam_or_path"),
        (["--actor.model_name", "m"], "--actor.model_name"),  # no abbreviations: they change with the host
        (["--train.batch_size", "many"], "--train.batch_size"),
        (["--algo.advantage.estimator", "ppo"], "--algo.advantage.estimator"),
        (["--train.async_enable", "yes"], "yes"),
        (["--train.batch_size"], "--train.batch_size"),
        (["--actor.adam.betas", "0.9"], "--actor.adam.betas"),
    ],
)
def test_what_the_host_does_not_take_is_bad_input(argv, named):
    with pytest.raises(InputError) as caught:
        parse_flags(argv)
    assert named in str(caught.value) and "OpenRLHF" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parsed_values_have_the_hosts_types():
    flags = vars(parse_flags(["--actor.adam.betas", "0.8", "0.9", "--train.async_enable", "--eval.steps", "-1"]))
    assert flags["actor.adam.betas"] == [0.8, 0.9]
    assert flags["train.async_enable"] is True and flags["eval.steps"] == -1


@pytest.mark.parametrize(
    ("layers", "merged"),
    [
        ([], []),
        ([["--a", "1"], ["--a", "2"]], ["--a", "2"]),
        ([["--a", "1"], [], ["--a", "3"], ["--b", "x"]], ["--a", "3", "--b", "x"]),
        ([["--a", "1", "--b", "2"], ["--a", "3"]], ["--b", "2", "--a", "3"]),
        (
            [["--betas", "0.9", "0.95", "--a", "1"], ["--betas", "0.8", "0.9"]],
            ["--a", "1", "--betas", "0.8", "0.9"],
        ),
        ([["--a", "1"], ["--a=2"]], ["--a", "2"]),
        ([["--a=2"], ["--a", "1"]], ["--a", "1"]),
        ([["--url=http://h/?x=1"]], ["--url", "http://h/?x=1"]),
        ([["--on"], ["--on"]], ["--on"]),
        ([["--on", "--a", "1"], ["--off"]], ["--on", "--a", "1", "--off"]),
        ([["--a", "1", "--a", "2"]], ["--a", "2"]),
        ([["--penalty", "-0.5"]], ["--penalty", "-0.5"]),
        ([["--template", ""]], ["--template", ""]),
        ([["--template", "a b --c"]], ["--template", "a b --c"]),
        ([["--template="]], ["--template", ""]),
    ],
)
def test_later_layers_win(layers, merged):
    assert merge_flags(*layers) == merged


@pytest.mark.parametrize("layer", [["stray"], ["stray", "--a", "1"], ["-a", "1"], [""]])
def test_a_layer_starts_with_a_flag(layer):
    with pytest.raises(InputError, match="expected a flag"):
        merge_flags(["--b", "2"], layer)


def test_a_stray_word_behind_a_flag_is_seen_by_the_parser():
    with pytest.raises(InputError, match="stray"):
        parse_flags(merge_flags(["--train.batch_size", "8", "stray"]))


def test_every_flag_of_the_host_survives_a_merge():
    for action in trainer_parser()._actions:
        values = {None: ["1"], 0: [], 2: ["0.1", "0.2"], "+": ["0.1", "0.2"], "*": ["x", "y"]}[action.nargs]
        for option in (word for word in action.option_strings if word.startswith("--") and word != "--help"):
            assert merge_flags([option, *values], ["--other"]) == [option, *values, "--other"]


def test_without_openrlhf_the_message_says_how_to_get_it(run):
    program = (
        "import importlib.util as u; find = u.find_spec; "
        "u.find_spec = lambda name, *a: None if name == 'openrlhf' else find(name, *a)\n"
        "from r1_searcher.host.flags import parse_flags\nparse_flags([])"
    )
    done = run([sys.executable, "-c", program])
    assert done.status == 1 and "OpenRLHF is not installed" in done.err
