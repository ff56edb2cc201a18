"""Supervised fine-tuning and serving: the commands that are built, and what is refused."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.episodes.fakes import ask, passages, play, say
from support.models.tokenizer_families import FAMILIES

from r1_searcher import sft
from r1_searcher.episode.sft_row import sft_row
from r1_searcher.host import bf16_products
from r1_searcher.host.flags import SFT_MODULE, parse_flags
from r1_searcher.host.model_folder import load_tokenizer

MESSAGES = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
PLAIN = {"input": "x", "output": "y"}


@pytest.fixture
def data(tmp_path):
    def write(row, count=200):
        file = tmp_path / "rows.jsonl"
        file.write_text(f"{json.dumps(row)}\n" * count)
        return file

    return write


def command(capsys, file, *more):
    status = sft.main(["--model", "m", "--data", str(file), "--out", str(file.parent / "out"), "--dry-run", *more])
    captured = capsys.readouterr()
    return status, shlex.split(captured.out), captured.err


@pytest.mark.parametrize(
    ("row", "input_key", "output_key", "template"),
    [(MESSAGES, "messages", None, True), (PLAIN, "input", "output", False)],
)
def test_the_command_reads_the_rows_as_they_are(data, capsys, row, input_key, output_key, template):
    file = data(row)
    status, argv, _ = command(capsys, file, "--device", "cpu", "--adam.lr", "1e-3")
    assert status == 0 and not (file.parent / "out").exists()
    launch, flags = (
        argv[: argv.index("r1_searcher.host.sft_driver")],
        argv[argv.index("r1_searcher.host.sft_driver") + 1 :],
    )
    assert launch[:3] == [sys.executable, "-m", "torch.distributed.run"] and launch[-2:] == ["1", "-m"]
    parsed = vars(parse_flags(flags, SFT_MODULE))
    assert parsed["data.input_key"] == input_key and parsed["data.output_key"] == output_key
    assert parsed["data.apply_chat_template"] is template
    assert parsed["data.input_template"] == ("User: {}\nAssistant: " if template else "")
    assert parsed["ds.attn_implementation"] == "sdpa" and parsed["adam.lr"] == 1e-3
    assert parsed["data.dataset"] == str(file) and parsed["model.model_name_or_path"] == "m"


@pytest.mark.parametrize(
    ("row", "count", "flags", "said"),
    [
        ({"text": "x"}, 200, [], "expected 'messages', 'input' and 'output', or 'ids'"),
        ([1], 200, [], "expected 'messages'"),
        (PLAIN, 3, [], "3 rows do not fill one batch of 128"),
        (
            PLAIN,
            15,
            ["--train.batch_size", "16", "--train.micro_batch_size", "16"],
            "15 rows do not fill one batch",
        ),
        (PLAIN, 200, ["--train.batch_size", "12"], "must be a multiple of --train.micro_batch_size 8"),
        (PLAIN, 200, ["--no.such.flag", "1"], "does not take these flags"),
        (PLAIN, 0, [], "expected 'messages'"),
        (PLAIN, 200, ["--data", "{folder}/a,b.jsonl"], "--data must not contain ','"),
        (PLAIN, 200, ["--data", "{folder}/rows[1].jsonl"], "--data must not contain '['"),
        (PLAIN, 200, ["--data", "{folder}/rows.jsonl.gz"], "OpenRLHF reads plain UTF-8 files"),
        (PLAIN, 200, ["--data", "{folder}/utf16.jsonl"], "OpenRLHF reads plain UTF-8 files"),
        (PLAIN, 200, ["--data", "{folder}/rows.txt"], "that end in .jsonl or .json only"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(data, capsys, row, count, flags, said):
    file = data(row, count)
    for name, content in odd_files(file.read_bytes()).items():
        (file.parent / name).write_bytes(content)
    status, _, err = command(capsys, file, "--device", "cpu", *(flag.format(folder=file.parent) for flag in flags))
    assert status == 2 and said in err and err.count("\n") == 1 and not (file.parent / "out").exists()


def odd_files(content: bytes) -> dict[str, bytes]:
    """What our readers of lines take and OpenRLHF's does not, by its path or by what is in it."""
    wide = content.decode().encode("utf-16")
    same = dict.fromkeys(("a,b.jsonl", "rows[1].jsonl", "rows.txt"), content)
    return same | {"rows.jsonl.gz": gzip.compress(content), "utf16.jsonl": wide}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model's folder as far as its tokenizer goes, and the tokenizer."""
    return save_tokenizer(tmp_path_factory.mktemp("model"), FAMILIES["Qwen2"]())


def save_tokenizer(folder, tokenizer):
    tokenizer.hf.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    return folder, tokenizer


@pytest.fixture
def episode_row(base):
    return sft_row(play([say("Paris")], tokenizer=base[1]).trajectory, base[1]).to_mapping()


def test_rows_of_episodes_need_no_flag_but_their_length(data, capsys, base, episode_row):
    status, argv, err = command(capsys, data(episode_row), "--model", str(base[0]), "--device", "cpu")
    assert status == 0, err
    parsed = vars(parse_flags(argv[argv.index("r1_searcher.host.sft_driver") + 1 :], SFT_MODULE))
    assert parsed["data.max_len"] == len(episode_row["ids"]), "none is left out"
    assert parsed["data.output_key"] is None and parsed["data.apply_chat_template"] is False


def test_episodes_over_the_users_length_are_left_out_and_counted(data, capsys, caplog, base, episode_row):
    longer = {key: episode_row[key] * 2 for key in ("ids", "text")} | {"targets": episode_row["targets"]}
    file = data(episode_row, 130)
    with file.open("a") as lines:
        lines.write(f"{json.dumps(longer)}\n" * 5)
    length = ["--data.max_len", str(len(episode_row["ids"])), "--train.max_epochs", "1", "--device", "cpu"]
    assert command(capsys, file, "--model", str(base[0]), *length)[0] == 0
    assert "5 of 135 episodes are left out" in caplog.text
    length[1] = str(len(episode_row["ids"]) - 1)
    status, _, err = command(capsys, file, "--model", str(base[0]), *length)
    assert status == 2 and "0 rows of at most" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "flags", "said"),
    [
        ({"text": "something else"}, [], "the tokenizer of"),
        ({"targets": [[0, 1]]}, [], "line 1: targets must be ranges"),
        ({}, ["--data.apply_chat_template"], "leave out --data.apply_chat_template"),
        ({}, ["--model.pretrain_mode_enable", "--data.input_key", "text"], "_enable, --data.input_key"),
    ],
)  # fmt: skip
def test_bad_rows_of_episodes_are_one_line(data, capsys, base, episode_row, change, flags, said):
    status, _, err = command(capsys, data(episode_row | change), "--model", str(base[0]), "--device", "cpu", *flags)
    assert status == 2 and said in err and err.count("\n") == 1


@pytest.mark.parametrize("words", [["--logger.wandb.key", "SECRET"], ["--logger.wandb.key=SECRET"]])
def test_a_wandb_key_is_never_shown(data, capsys, monkeypatch, words):
    """OpenRLHF's trainer sends all of its flags to W&B; its logger takes the key from the environment."""
    monkeypatch.setenv("WANDB_API_KEY", "")
    _, argv, _ = command(capsys, data(PLAIN), *words)
    assert "--logger.wandb.key" in argv and not any("SECRET" in word for word in argv)
    assert os.environ["WANDB_API_KEY"] == "SECRET"


def test_a_missing_file(tmp_path, capsys):
    status, _, err = command(capsys, tmp_path / "none.jsonl")
    assert status == 2 and "cannot read rows" in err


def test_a_finished_model_is_left_alone(data, capsys, monkeypatch):
    file = data(PLAIN)
    out = file.parent / "out"
    out.mkdir()
    (out / sft.COMPLETE).touch()
    monkeypatch.setattr(sft.subprocess, "Popen", None)
    assert sft.main(["--model", "m", "--data", str(file), "--out", str(out), "--device", "cpu"]) == 0


def test_another_fine_tuning_is_refused_and_an_earlier_versions_finished_one_is_not(data, capsys, monkeypatch):
    """What is in the folder stays: a checkpoint of other rows or flags is not what is asked for."""
    file = data(PLAIN)
    out = file.parent / "out"
    monkeypatch.setattr(sft, "run_training", lambda *_: 1)
    for name in ("check_brings_no_code", "refuse_unsavable", "threads_for"):
        monkeypatch.setattr(sft, name, lambda _: 1)

    def tune(*more):
        places = ("--model", "m", "--data", str(file), "--out", str(out), "--device", "cpu")
        return sft.main([*places, "--adam.lr", "1e-3", *more]), capsys.readouterr().err

    assert tune()[0] == 1 and tune()[0] == 1, "the same one may be tried again"
    status, said = tune("--train.seed", "7")
    assert status == 2 and "holds another fine-tuning (flags --train.seed: there None, here '7')" in said
    data(MESSAGES)
    status, said = tune()
    assert status == 2 and "rows_sha256" in said and said.count("\n") == 1
    (out / sft.IDENTITY_FILE).unlink()
    (out / "train.log").touch()
    assert tune()[0] == 2, "of an earlier version, and unfinished"
    (out / sft.COMPLETE).touch()
    assert tune()[0] == 0


@pytest.mark.parametrize("flag", sft.OURS)
def test_what_an_option_of_ours_stands_for_is_refused(data, capsys, flag):
    status, _, err = command(capsys, data(PLAIN), flag, "x")
    assert status == 2 and f"{flag} is set by {sft.OURS[flag]}; use that instead" in err


def test_a_training_that_fails_says_where_the_reason_stands(data, capsys, caplog):
    file = data(PLAIN)
    out = file.parent / "out"
    status = sft.run_training([sys.executable, "-c", "import sys; print('why'); sys.exit(3)"], out, sft.Device.CPU)
    assert status == 1 and "status 3" in caplog.text and (out / "train.log").read_text() == "why\n"
    assert not (out / sft.COMPLETE).exists()


TRAINING = """
import os, pathlib, sys
from foundation.cli import run_command
from r1_searcher import sft
# A launcher, and a rank below it that looks after itself, as torch's and OpenRLHF's do.
RANK = "import pathlib, sys, time; from foundation.cli import run_command; " \
       "run_command('rank', lambda: (pathlib.Path(sys.argv[1]).touch(), time.sleep(600)))"
LAUNCHER = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', *sys.argv[1:]]))"
command = [sys.executable, "-c", LAUNCHER, RANK, sys.argv[1]]
sys.exit(run_command("sft", lambda: sft.run_training(command, pathlib.Path(sys.argv[2]), sft.Device.CPU)))
"""


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_that_is_ended_leaves_no_process(tmp_path, number):
    begun = tmp_path / "begun"
    command = [sys.executable, "-c", TRAINING, str(begun), str(tmp_path / "out")]
    environment = os.environ | {bf16_products.VARIABLE: "bf16"}  # nothing is measured, and torch not imported
    training = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(begun.exists)
        children = psutil.Process(training.pid).children(recursive=True)
        assert len(children) == 2
        training.send_signal(number)
        assert training.wait(timeout=30) == (143 if number == signal.SIGTERM else -signal.SIGKILL)
        wait_until(lambda: not any(process.is_running() and process.status() != "zombie" for process in children))
    finally:
        if training.poll() is None:
            training.kill()
            training.wait()


def wait_until(condition, seconds=40.0):
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "waited too long"
        time.sleep(0.02)


TINY_BASE = Path(__file__).resolve().parents[2] / "data_prep" / "tiny" / "model"
E2E_FLAGS = ("--train.batch_size", "16", "--train.max_epochs", "4", "--adam.lr", "1e-3")


def tiny_training(file, *flags):
    """Command line of a fine-tuning of the tiny base: 16 steps of 64 rows."""
    if not (TINY_BASE / "model.safetensors").is_file():
        pytest.skip("needs the tiny base model")
    places = ("--model", str(TINY_BASE), "--data", str(file), "--out", str(file.parent / "out"))
    return [*places, *E2E_FLAGS, *flags]


def train_tiny_base(file, *flags):
    """Its losses by step, after the model has been loaded."""
    from transformers import AutoModelForCausalLM

    out = file.parent / "out"
    status = sft.main(tiny_training(file, *flags))
    log = (out / "train.log").read_text()
    assert status == 0, log[-3000:]
    assert AutoModelForCausalLM.from_pretrained(out).num_parameters() > 100_000
    return [float(part.split(",")[0]) for part in log.split("gpt_loss=")[1:]]


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_openrlhf_trains_rows_of_text_here_and_continues_a_killed_training(data):
    """Stock `openrlhf.cli.train_sft` on this machine: a loss that falls, and a model that loads."""
    row = {"input": "Question : What ?\n", "output": " I think I know this . </think> <answer> me </answer>"}
    file = data(row, 64)
    flags = ("--data.max_len", "128", "--ckpt.save_steps", "2", "--ckpt.max_num", "2")
    out = file.parent / "out"
    command = [sys.executable, "-m", "r1_searcher.sft", *tiny_training(file, *flags)]
    killed = subprocess.Popen(command, start_new_session=True)
    try:
        wait_until((out / sft.CHECKPOINTS / "latest").is_file, seconds=240)
        children = psutil.Process(killed.pid).children(recursive=True)
    finally:
        killed.kill()
        killed.wait()
    wait_until(lambda: not any(process.is_running() and process.status() != "zombie" for process in children))
    assert not (out / sft.COMPLETE).exists()
    losses = train_tiny_base(file, *flags)
    (consumed,) = re.findall(r"Loaded the checkpoint: .*, consumed_samples: (\d+)", (out / "train.log").read_text())
    assert int(consumed) >= 32, "two steps of 16 rows"
    assert losses[-1] < losses[0] / 2


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_openrlhf_trains_episodes_on_their_actions_alone(data):
    """The first loss is the base's own mean over the action ids, computed here."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(str(TINY_BASE))
    episode = play([ask(" tower ", " Let me search . "), say(" Paris ")], passages("A tower ."), tokenizer=tokenizer)
    row = sft_row(episode.trajectory, tokenizer)
    losses = train_tiny_base(data(row.to_mapping(), 64), "--train.micro_batch_size", "16")
    ids = torch.tensor([row.ids])
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(TINY_BASE, dtype=torch.float32)(ids).logits[0].log_softmax(-1)
    actions = [place for start, end in row.targets for place in range(start, end)]
    expected = -sum(logits[place - 1, row.ids[place]].item() for place in actions) / len(actions)
    assert losses[0] == pytest.approx(expected, rel=0.02), "bf16 against fp32"
    assert losses[-1] < losses[0] / 2
