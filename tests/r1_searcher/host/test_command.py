"""OpenRLHF's command line from a recipe and the user's flags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foundation.errors import InputError
from r1_searcher.episode.question import QARow
from r1_searcher.host.command import CPU_FLAGS, build_command, with_length_of
from r1_searcher.host.device import Device
from r1_searcher.host.flags import parse_flags
from r1_searcher.recipe.recipe import RECIPES, find_recipe
from r1_searcher.run.run_config import QuestionFilter
from r1_searcher.run.run_folder import RunFolder

RUN_DIR = Path("/runs/a run")
RECIPE = find_recipe("tiny.stage1")


def command(*flags: str, device: Device = Device.CUDA):
    return build_command(RECIPE, RUN_DIR, flags, device)


@pytest.mark.parametrize("device", Device)
def test_the_host_writes_into_the_run_folder_and_nowhere_else(device):
    built = command(device=device)
    assert vars(built.flags) == vars(parse_flags(built.argv))
    written = {name: value for name, value in vars(built.flags).items() if isinstance(value, str) and "/" in value}
    assert Path(written.pop("train.agent_func_path")).is_file()
    assert {"ckpt.path", "ckpt.output_dir", "logger.tensorboard_dir", "data.prompt_dataset"} <= written.keys()
    assert all(Path(value).is_relative_to(RUN_DIR) for value in written.values()), written


def test_the_host_reads_the_rows_that_the_run_folder_writes(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.prepare({}, [QARow("1", "who?", ("me",))])
    flags = vars(build_command(RECIPE, folder.path, (), Device.CPU).flags)
    row = json.loads(Path(flags["data.prompt_dataset"]).read_text())
    assert row[flags["data.input_key"]] == "who?" and "me" in row[flags["data.label_key"]]


def test_every_recipe_gives_the_engine_its_length():
    for recipe in RECIPES.values():
        built = build_command(recipe, RUN_DIR, (), Device.CUDA)
        assert with_length_of(recipe, built).limits == recipe.limits


def test_only_the_cpu_gets_the_cpu_flags():
    words = {word for word in CPU_FLAGS if word.startswith("--")} - {"--vllm.num_engines"}
    assert not words & set(command().argv)
    cpu = command(device=Device.CPU)
    assert (
        words <= set(cpu.argv) and cpu.get("vllm.sync_backend") == "gloo" and cpu.gpus == 4
    )  # actor, engine, reference, critic


@pytest.mark.parametrize("device", Device)
def test_the_users_flags_win(device):
    built = command(
        *("--vllm.num_engines", "3", "--ds.attn_implementation=sdpa", "--logger.wandb.run_name", "mine"),
        *("--actor.num_gpus_per_node", "2", "--data.max_len", "999"),
        device=device,
    )
    assert built.number("vllm.num_engines") == 3 and built.get("ds.attn_implementation") == "sdpa"
    assert built.get("logger.wandb.run_name") == "mine" and built.number("actor.num_gpus_per_node") == 2
    assert built.argv.count("--vllm.num_engines") == 1
    assert with_length_of(RECIPE, built).limits.max_length == 999


def test_the_length_that_a_user_sets_is_checked():
    with pytest.raises(InputError, match="max_length"):
        with_length_of(RECIPE, command("--data.max_len", "0"))


@pytest.mark.parametrize("engines", ["0", "-1"])
def test_episodes_need_an_engine(engines):
    with pytest.raises(InputError, match=r"--vllm\.num_engines"):
        command("--vllm.num_engines", engines)


REINFORCE = ("--algo.advantage.estimator", "reinforce_baseline")
NO_KL = ("--algo.kl.init_coef", "0")


@pytest.mark.parametrize(
    ("flags", "gpus"),
    [
        ((*REINFORCE, *NO_KL, "--actor.num_gpus_per_node", "4", "--vllm.tensor_parallel_size", "2"), 6),
        ((*REINFORCE, *NO_KL, "--actor.num_nodes", "2", "--vllm.num_engines", "4"), 16 + 4),
        ((*REINFORCE, "--actor.num_gpus_per_node", "5", "--ref.num_gpus_per_node", "5"), 5 + 1 + 5),
        (
            (
                *REINFORCE,
                "--actor.num_gpus_per_node",
                "5",
                "--ref.num_gpus_per_node",
                "5",
                "--train.colocate_actor_ref",
            ),
            5 + 1,
        ),
        ((*REINFORCE, "--train.colocate_all", "--vllm.num_engines", "8", "--vllm.enable_sleep"), 8),
        ((*NO_KL, "--actor.num_gpus_per_node", "2", "--critic.num_gpus_per_node", "3"), 2 + 1 + 3),
        # the host itself: "colocate_all in async RLHF only colocates DeepSpeed models"
        ((*REINFORCE, "--train.colocate_all", "--train.async_enable", "--vllm.num_engines", "8"), 8 + 8),
    ],
)
def test_gpus_of_a_placement(flags, gpus):
    assert command(*flags).gpus == gpus


def test_filtering_asks_for_differences_unless_a_range_is_given():
    assert command().question_filter is None
    filtered = "--algo.dynamic_filtering_enable"
    assert command(filtered).question_filter == QuestionFilter()
    for words in (("--algo.dynamic_filtering_range", "-2", "1"), ("--algo.dynamic_filtering_range", "0", "1")):
        assert command(filtered, *words).question_filter == QuestionFilter((float(words[1]), 1.0))


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ((), "off"),
        (("--train.async_enable",), "token"),
        (("--train.async_enable", "--algo.advantage.is_correction_level", "off"), "off"),
    ],
)
def test_asynchronous_training_corrects_for_older_weights(flags, level):
    assert command(*flags).get("algo.advantage.is_correction_level") == level


# What the host takes and refuses


@pytest.mark.parametrize(
    "flags",
    [
        ["--ckpt.path", "/elsewhere"],  # last_step, and with it resuming, is read from the run folder
        ["--logger.tensorboard_dir", "/elsewhere"],  # so are the metrics
        ["--data.prompt_dataset", "/elsewhere/data.jsonl"],  # and the questions
        ["--data.input_key", "question"],
        ["--data.label_key", "answer"],
        ["--train.agent_func_path", "/elsewhere/agent.py"],
        [
            "--reward.remote_url",
            "http://127.0.0.1:1",
        ],  # OpenRLHF ignores it beside an agent; ours is --reward-url
    ],
    ids=lambda flags: flags[0],
)
def test_flags_that_would_cut_the_run_from_its_folder_are_refused(flags):
    with pytest.raises(InputError, match=flags[0]):
        command(*flags)


@pytest.mark.parametrize("name", ["a,b", "a@b"])
def test_a_folder_name_that_the_host_would_split_is_refused(name):
    """OpenRLHF reads its dataset argument as `path,path` and `path@folder`."""
    with pytest.raises(InputError, match="--run-dir"):
        build_command(RECIPE, Path("/runs") / name, (), Device.CUDA)


def test_lora_is_refused_because_the_host_cannot_send_it():
    with pytest.raises(InputError, match="cannot send LoRA weights"):
        command("--ds.lora.rank", "8")


@pytest.mark.parametrize("name", ["a,b", "a@b", "run [1]", "what?", "all*", "$HOME", "a::b"])
def test_a_run_folder_whose_name_would_be_read_as_more_is_refused(name):
    with pytest.raises(InputError, match="--run-dir must not contain"):
        build_command(find_recipe("tiny.stage1"), Path("/runs") / name, [], Device.CPU)


@pytest.mark.parametrize("name", ["two words", "ü 日本", "x" * 200, "p%20p", "n'q", "e{1}", "o(p)", "#1", "a;b"])
def test_a_run_folder_of_any_other_name_is_read_as_it_is(name, tmp_path, monkeypatch):
    """What datasets, which OpenRLHF reads the questions with, makes of the path."""
    import datasets

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    build_command(find_recipe("tiny.stage1"), tmp_path / name, [], Device.CPU)
    file = tmp_path / name / "data.jsonl"
    file.parent.mkdir()
    file.write_text('{"input": "x", "label": "y"}\n')
    found = datasets.load_dataset("json", data_files=str(file), cache_dir=str(tmp_path / "cache"))
    assert found["train"]["input"] == ["x"]
