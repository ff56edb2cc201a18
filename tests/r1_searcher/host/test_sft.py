"""Supervised fine-tuning and serving: the commands that are built, and what is refused."""

from __future__ import annotations

import json
import shlex
import sys

import pytest

from r1_searcher import sft
from r1_searcher.host.flags import SFT_MODULE, parse_flags

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
        ({"text": "x"}, 200, [], "expected 'messages', or 'input' and 'output'"),
        ([1], 200, [], "expected 'messages'"),
        (PLAIN, 3, [], "3 rows do not fill one batch of 128"),
        (PLAIN, 200, ["--train.batch_size", "12"], "must be a multiple of --train.micro_batch_size 8"),
        (PLAIN, 200, ["--no.such.flag", "1"], "does not take these flags"),
        (PLAIN, 0, [], "expected 'messages'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(data, capsys, row, count, flags, said):
    file = data(row, count)
    status, _, err = command(capsys, file, "--device", "cpu", *flags)
    assert status == 2 and said in err and err.count("\n") == 1 and not (file.parent / "out").exists()


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


def test_a_training_that_fails_says_where_the_reason_stands(data, capsys, caplog):
    file = data(PLAIN)
    out = file.parent / "out"
    status = sft._run([sys.executable, "-c", "import sys; print('why'); sys.exit(3)"], out, sft.Device.CPU)
    assert status == 1 and "status 3" in caplog.text and (out / "train.log").read_text() == "why\n"
    assert not (out / sft.COMPLETE).exists()


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_openrlhf_trains_the_rows_here(data, tmp_path):
    """Stock `openrlhf.cli.train_sft` on this machine: a loss that falls, and a model that loads."""
    from pathlib import Path

    from transformers import AutoModelForCausalLM

    base = Path(__file__).resolve().parents[3] / "data_prep" / "tiny" / "model"
    if not (base / "model.safetensors").is_file():
        pytest.skip("needs the tiny base model")
    file = data({"input": "Question : What ?\n", "output": " I think I know this . </think> <answer> me </answer>"}, 64)
    flags = ["--train.batch_size", "16", "--train.max_epochs", "4", "--adam.lr", "1e-3", "--data.max_len", "128"]
    out = tmp_path / "out"
    assert sft.main(["--model", str(base), "--data", str(file), "--out", str(out), *flags]) == 0, (
        out / "train.log"
    ).read_text()[-3000:]
    losses = [float(part.split(",")[0]) for part in (out / "train.log").read_text().split("gpt_loss=")[1:]]
    assert losses[-1] < losses[0] / 2
    assert AutoModelForCausalLM.from_pretrained(out).num_parameters() > 100_000
