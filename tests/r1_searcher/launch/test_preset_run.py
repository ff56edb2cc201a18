"""Training by a preset, in this process: what is filled in, what is refused, which services are started."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from r1_searcher import train
from r1_searcher.host.device import Device
from r1_searcher.host.flags import parse_flags
from r1_searcher.launch import playground, preset_run
from r1_searcher.recipe.presets import shipped_presets

STAGES = [(name, stage) for name, preset in shipped_presets().items() for stage in preset.stages]


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """An empty folder of runs."""
    for module in (playground, preset_run):
        monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def dry_run(runs, capsys):
    """The words that `r1_searcher.train … --dry-run` prints."""

    def words(*arguments: str) -> list[str]:
        assert train.main([*arguments, "--dry-run"]) == 0
        assert not runs.exists(), "a dry run writes nothing"
        return shlex.split(capsys.readouterr().out)

    return words


@pytest.fixture
def refused(runs, capsys):
    """The one line on stderr of a command line that is refused."""

    def line(*arguments: str) -> str:
        assert train.main(list(arguments)) == 2
        (said,) = capsys.readouterr().err.splitlines()
        return said

    return line


@pytest.mark.parametrize(("preset", "stage"), STAGES)
def test_a_preset_prints_a_command_that_the_host_takes(dry_run, runs, preset, stage):
    python, dash_m, module, *argv = dry_run("--preset", preset, "--stage", stage)
    assert (python, dash_m, module) == (sys.executable, "-m", "openrlhf.cli.train_ppo_ray")
    flags = vars(parse_flags(argv))
    assert flags["ckpt.output_dir"] == str(runs / preset / stage / "model")
    on_gpus = flags["ds.attn_implementation"].startswith("flash_attention") and flags["vllm.sync_backend"] == "nccl"
    found = shipped_presets()[preset]
    assert on_gpus == (found.tiny is None and found.device != "cpu")
    if stage == "stage2":
        assert flags["actor.model_name_or_path"] == str(runs / preset / "stage1" / "model")


def test_the_users_options_win(dry_run, tmp_path):
    mine = ["--actor.adam.lr", "1e-6", "--vllm.num_engines=2", "--seed", "7", "--device", "cpu"]
    argv = dry_run("--preset", "qwen7b", "--run-dir", str(tmp_path / "mine"), *mine)[3:]
    flags = vars(parse_flags(argv))
    assert (flags["actor.adam.lr"], flags["vllm.num_engines"], flags["train.seed"]) == (1e-6, 2, 49)
    assert flags["ckpt.output_dir"] == str(tmp_path / "mine" / "model") and flags["vllm.sync_backend"] == "gloo"


@pytest.mark.parametrize(("device", "expected", "told"), [(Device.CPU, "tiny", True), (Device.CUDA, "qwen7b", False)])
def test_a_system_takes_the_preset_of_the_machine_and_says_so(
    dry_run, runs, monkeypatch, caplog, device, expected, told
):
    monkeypatch.setattr(preset_run, "detect", lambda: (device, 1))
    flags = vars(parse_flags(dry_run("--system", "r1_searcher", "--stage", "stage1")[3:]))
    assert flags["ckpt.output_dir"] == str(runs / expected / "stage1" / "model")
    assert ("no GPU found: taking the preset tiny" in caplog.text) == told


@pytest.mark.parametrize("words", [["--logger.wandb.key", "SECRET"], ["--logger.wandb.key=SECRET"]])
def test_a_wandb_key_is_never_shown(dry_run, words, monkeypatch):
    """It would stand in the dry run, the process list, the run's identity and OpenRLHF's log."""
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.delenv("WANDB_API_KEY")
    argv = dry_run("--preset", "tiny", *words)
    assert not any("SECRET" in word for word in argv) and "--logger.wandb.key" in argv
    assert os.environ["WANDB_API_KEY"] == "SECRET"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "tiny", "--stage", "stage2"], "run stage1.sh first, or give --actor.model_name_or_path"),
        (["--preset", "huge"], "unknown preset 'huge'"),
        (["--preset", "tiny", "--stage", "three"], "no stage 'three'"),
        (["--preset", "tiny", "--seed", "-1"], "--seed must be 0 or more, found -1"),
        (["--seed", "1", "--recipe", "tiny.stage1"], "belong to a preset"),
        (["--preset", "qwen7b"], "required: --data, --search"),
        (["--recipe", "tiny.stage1"], "required: --run-dir, --data, --search"),
    ],
)
def test_a_command_line_that_cannot_work_is_refused(refused, arguments, said):
    assert said in refused(*arguments)


def test_a_flag_that_the_host_does_not_take_names_the_preset(refused, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "tiny"\n[flags]\nactor.speed = 3\n')
    said = refused("--preset", str(path), "--dry-run")
    assert "the preset mine: OpenRLHF does not take these flags" in said and "--actor.speed" in said


def test_the_presets_are_listed(capsys):
    assert train.main(["--list-presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_presets())


@pytest.fixture
def started(runs, monkeypatch) -> list[str]:
    """What a run starts, in its order; nothing is really started, and the trainer stops before it trains."""
    calls: list[str] = []

    def start(services, name, module, *arguments):
        calls.append(" ".join((module, *arguments)))
        return f"http://127.0.0.1:1/{name}"

    monkeypatch.setattr(
        playground, "run_module", lambda module, *arguments: calls.append(" ".join((module, *arguments)))
    )
    monkeypatch.setattr(playground.Services, "start", start)
    monkeypatch.setattr(train, "train_in", lambda folder, options, plan: calls.append(f"train {options.search}") or 0)
    return calls


def test_the_tiny_preset_makes_its_world_and_searches_without_what_is_held_out(started, runs):
    assert train.main(["--preset", "tiny", "--seed", "3"]) == 0
    world = runs / "tiny_world_seed3"
    assert started == [
        f"data_prep.tiny_world --out {world} --seed 3",
        f"retriever.server --corpus {world / 'corpus_train.jsonl'} --backend bm25",
        "train http://127.0.0.1:1/training_retriever",
    ]


def test_a_systems_tiny_base_is_built_unless_a_model_is_given(started):
    assert train.main(["--preset", "research_tiny"]) == 0
    assert started[0].startswith("data_prep.tiny_base --protocol research.tiny --out ")
    started.clear()
    assert train.main(["--preset", "research_tiny", "--actor.model_name_or_path", "mine"]) == 0
    assert not any("data_prep.tiny_base" in call for call in started)


def test_nothing_is_started_where_the_user_has_it_all(started):
    given = ["--data", "mine.jsonl", "--retriever-url", "http://mine"]
    assert train.main(["--preset", "tiny", *given]) == 0
    assert train.main(["--preset", "qwen7b", *given]) == 0
    assert started == ["train http://mine", "train http://mine"]


def test_zerosearch_fine_tunes_and_serves_its_simulator(started, runs):
    assert train.main(["--preset", "zerosearch_tiny", "--seed", "2"]) == 0
    modules = [call.split()[0] for call in started]
    simulator = ["data_prep.tiny_simulator", "data_prep.simulator_data", "r1_searcher.sft", "r1_searcher.serve"]
    assert modules == ["data_prep.tiny_base", "data_prep.tiny_world", *simulator, "train"]
    assert "--adam.lr 1e-3" in started[4] and "--mode short" in started[3]
    assert started[-1] == "train simulate:http://127.0.0.1:1/simulator/v1?mode=short&noise=0:0.5&seed=2"
    (runs / "tiny_simulator" / "data").mkdir(parents=True)
    (runs / "tiny_simulator" / "data" / "sft.jsonl").touch()
    started.clear()
    assert train.main(["--preset", "zerosearch_tiny"]) == 0
    assert not any("data_prep.simulator_data" in call for call in started), "its data are made once"


@pytest.mark.slow
def test_the_whole_validation_of_the_host_takes_every_preset(dry_run, run, environment):
    """Through the real module: what it asserts after parsing runs too."""
    argvs = [dry_run("--preset", preset, "--stage", stage)[3:] for preset, stage in STAGES]
    bad = ["--algo.advantage.estimator", "rloo", "--rollout.n_samples_per_prompt", "1"]
    done = run(
        [sys.executable, Path(__file__).parents[2] / "support/processes/run_host_cli.py"],
        input=json.dumps([*argvs, bad]),
        env={**environment, "R1_SEARCHER_CPU": "1", "DS_ACCELERATOR": "cpu"},
        timeout=300,
    )
    assert done.status == 0, done.err[-3000:]
    *results, refused = json.loads(done.out.split("RESULT ")[1])
    for key, result in zip(STAGES, results, strict=True):
        assert "error" not in result, (key, result["error"])
        assert "remote_url=['agent']" in result["args"]
    assert "n_samples_per_prompt > 1" in refused["error"], "the check itself checks something"


def test_runs_lie_in_the_project_or_where_a_variable_says_or_where_it_can_be_written(tmp_path, monkeypatch):
    """A checkout of a system's administrator, a container's layer, a colleague's folder."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.setattr(playground, "PROJECT", project)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(playground.RUNS_VARIABLE, raising=False)
    assert playground.folder_of_runs() == project / "runs"
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != project)
    assert playground.folder_of_runs() == tmp_path / "runs"
    monkeypatch.setenv(playground.RUNS_VARIABLE, "elsewhere")
    assert playground.folder_of_runs() == tmp_path / "elsewhere"


def test_a_model_that_is_made_here_lies_in_the_folder_of_the_runs(runs):
    presets = shipped_presets()
    assert playground.model_of(presets["research_tiny"]) == str(runs / "tiny_bases" / "research")
    assert Path(playground.model_of(presets["tiny"]), "config.json").is_file()
    assert playground.model_of(presets["qwen7b"]) == "Qwen/Qwen2.5-7B"
