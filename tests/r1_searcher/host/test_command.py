"""OpenRLHF's command line from a recipe and the user's flags, and the ones that the scripts print."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from foundation.errors import InputError
from r1_searcher import train
from r1_searcher.host.command import AGENT_FILE, CPU_FLAGS, build_command, with_length_of
from r1_searcher.host.device import Device
from r1_searcher.host.flags import parse_flags
from r1_searcher.recipe.recipe import RECIPES, find_recipe

RUN_DIR = Path("/runs/a run")
RECIPE = find_recipe("tiny.stage1")
PRESETS = [(preset, stage) for preset in ("tiny", "qwen7b", "llama8b") for stage in (1, 2)]


def command(*flags: str, device: Device = Device.CUDA):
    return build_command(RECIPE, RUN_DIR, flags, device)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=str)
@pytest.mark.parametrize("device", Device)
def test_every_recipe_makes_a_command_that_the_host_takes(recipe, device):
    built = build_command(recipe, RUN_DIR, (), device)
    assert vars(built.flags) == vars(parse_flags(built.argv))
    assert built.get("train.agent_func_path") == str(AGENT_FILE) and AGENT_FILE.is_file()
    assert built.get("data.prompt_dataset") == "/runs/a run/data/train.jsonl"
    assert (built.get("data.input_key"), built.get("data.label_key")) == ("input", "label")
    assert built.number("data.max_len") == recipe.limits.max_length
    assert built.get("ckpt.path") == "/runs/a run/checkpoints"
    assert built.get("ckpt.output_dir") == "/runs/a run/model"
    assert built.get("logger.tensorboard_dir") == "/runs/a run/tensorboard"
    assert built.get("logger.wandb.run_name") == "a run"
    assert built.get("ckpt.load_enable") is True


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


@pytest.mark.parametrize(
    ("engines", "episodes"),
    [("1", 64), ("2", 32), ("3", 21), ("100", 1)],
)
def test_episodes_per_engine(engines, episodes):
    flags = (
        "--rollout.batch_size",
        "8",
        "--rollout.n_samples_per_prompt",
        "8",
        "--vllm.num_engines",
        engines,
    )
    assert command(*flags).episodes_per_engine_and_step == episodes


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


# What the scripts print


@pytest.fixture
def dry_run(arguments_of_script, capsys):
    """The words that `stageS.sh --preset P --dry-run` prints; the trainer runs in this process."""

    def words(preset: str, stage: int, *arguments: str) -> list[str]:
        dash_m, module, *argv = arguments_of_script(f"stage{stage}.sh", "--preset", preset, "--dry-run", *arguments)
        assert (dash_m, module) == ("-m", "r1_searcher.train")
        assert train.main(argv) == 0
        return shlex.split(capsys.readouterr().out)

    return words


def test_a_dry_run_as_a_user_types_it(scripts, run, environment):
    """From another folder, with a space in the path of the checkout."""
    done = run(["bash", scripts / "stage1.sh", "--preset", "tiny", "--dry-run"], env=environment, cwd="/")
    assert done.status == 0, done.err
    python, dash_m, module, *argv = shlex.split(done.out)
    assert (python, dash_m, module) == (sys.executable, "-m", "openrlhf.cli.train_ppo_ray")
    assert vars(parse_flags(argv))["ckpt.path"].startswith(str(scripts.parent))
    assert not (scripts.parent / "runs").exists(), "a dry run writes nothing"


@pytest.mark.parametrize(("preset", "stage"), PRESETS)
def test_a_preset_prints_flags_that_the_host_takes(dry_run, scripts, preset, stage):
    argv = dry_run(preset, stage)[3:]
    flags = vars(parse_flags(argv))
    run_dir = scripts.parent / "runs" / preset / f"stage{stage}"
    assert flags["ckpt.output_dir"] == str(run_dir / "model")
    episodes = flags["rollout.batch_size"] * flags["rollout.n_samples_per_prompt"]
    assert episodes % flags["train.batch_size"] == 0
    if preset == "tiny":
        assert flags["vllm.sync_backend"] == "gloo"
    else:
        cpu_only = {"--vllm.sync_backend", "--vllm.enforce_eager", "--ds.attn_implementation"}
        assert not cpu_only & set(argv)
        assert flags["ds.attn_implementation"].startswith("flash_attention") and flags["train.seed"] == 42
    if stage == 2:
        assert flags["actor.model_name_or_path"] == str(scripts.parent / "runs" / preset / "stage1" / "model")


def test_a_scripts_users_flags_win(dry_run):
    argv = dry_run("qwen7b", 1, "--actor.adam.lr", "1e-6", "--vllm.num_engines=2", "--seed", "7")[3:]
    flags = vars(parse_flags(argv))
    assert (flags["actor.adam.lr"], flags["vllm.num_engines"], flags["train.seed"]) == (1e-6, 2, 49)


@pytest.mark.parametrize("words", [["--logger.wandb.key", "SECRET"], ["--logger.wandb.key=SECRET"]])
def test_a_wandb_key_is_never_shown(dry_run, words, monkeypatch):
    """It would stand in the dry run, the process list, the run's identity and OpenRLHF's log."""
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.delenv("WANDB_API_KEY")
    argv = dry_run("tiny", 1, *words)
    assert not any("SECRET" in word for word in argv) and "--logger.wandb.key" in argv
    assert os.environ["WANDB_API_KEY"] == "SECRET"


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


@pytest.mark.slow
def test_the_whole_validation_of_the_host_takes_every_preset(dry_run, run, environment):
    """Through the real module: what it asserts after parsing runs too."""
    argvs = [dry_run(*key)[3:] for key in PRESETS]
    bad = ["--algo.advantage.estimator", "rloo", "--rollout.n_samples_per_prompt", "1"]
    done = run(
        [sys.executable, Path(__file__).with_name("run_host_cli.py")],
        input=json.dumps([*argvs, bad]),
        env={**environment, "R1_SEARCHER_CPU": "1", "DS_ACCELERATOR": "cpu"},
        timeout=300,
    )
    assert done.status == 0, done.err[-3000:]
    *results, refused = json.loads(done.out.split("RESULT ")[1])
    for key, result in zip(PRESETS, results, strict=True):
        assert "error" not in result, (key, result["error"])
        assert "remote_url=['agent']" in result["args"]
    assert "n_samples_per_prompt > 1" in refused["error"], "the check itself checks something"


def test_lora_is_refused_because_the_host_cannot_send_it():
    with pytest.raises(InputError, match="cannot send LoRA weights"):
        command("--ds.lora.rank", "8")


SYSTEMS = ("search_r1_ppo", "search_r1_grpo", "research", "zerosearch", "deep_researcher")


@pytest.mark.parametrize(
    "preset", [*SYSTEMS, "search_r1_tiny", "research_tiny", "zerosearch_tiny", "deep_researcher_tiny"]
)
def test_every_system_prints_a_command_that_the_host_takes(preset):
    root = AGENT_FILE.parents[1]
    script = next(
        name for name in ("search_r1", "deep_researcher", "zerosearch", "research") if preset.startswith(name)
    )
    words = ["bash", str(root / "train_scripts" / f"{script}.sh"), "--preset", preset, "--dry-run"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, _, module, *flags = shlex.split(done.stdout)
    assert module == "openrlhf.cli.train_ppo_ray"
    parse_flags(flags)
