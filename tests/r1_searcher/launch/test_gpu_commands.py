"""The trainings of the GPU tests up to the start of the driver, on a machine that says it has a small GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.models.small_qwen import VOCABULARY, small_qwen
from support.processes.gpu_commands import APART, QUESTIONS, STAGES, STEPS, on_one_gpu, searching, two_steps

from r1_searcher import train
from r1_searcher.host.device import Device
from r1_searcher.host.flags import parse_flags
from r1_searcher.launch import supervisor
from r1_searcher.memory.fit import Cards, fit
from r1_searcher.memory.layout import Layout
from r1_searcher.memory.shape import find_shape
from r1_searcher.run.run_config import RunConfig

pytestmark = pytest.mark.slow

SMALL_CARD = "32"
"""GB of the GPU."""


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Path:
    """The model of the GPU tests, but for most of its vocabulary, which takes long to write."""
    return small_qwen(tmp_path_factory.mktemp("models") / "qwen", vocabulary=1_000)


@pytest.fixture
def launched(world, retriever_url, tmp_path, monkeypatch) -> Callable[[list[str], int], dict]:
    """What the driver would be started with."""
    started: list[dict] = []

    class Recorder:
        def __init__(self, folder, argv, device, gpus, total_steps, verbose, guard):
            started.append({"argv": argv, "device": device, "gpus": gpus, "steps": total_steps})

        def run(self) -> int:
            return 1

    def launch(words: list[str], gpus: int) -> dict:
        cards = Cards.parse(f"{gpus}x{SMALL_CARD}")
        monkeypatch.setattr(train, "detect", lambda: (Device.CUDA, gpus))
        monkeypatch.setattr(train, "cards", lambda: cards)
        monkeypatch.setattr(supervisor, "Supervisor", Recorder)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus))))
        data = tmp_path / "eight.jsonl"
        data.write_text("".join((world / "stage1.jsonl").read_text().splitlines(keepends=True)[:QUESTIONS]))
        ours = ["--run-dir", str(tmp_path / "run"), "--data", str(data), *searching(retriever_url)]
        assert train.main([*words, *ours]) == 1, "the recorder's status"
        return started[-1]

    return launch


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_a_preset_starts_on_one_gpu_and_has_two_steps(launched, qwen, name, stage):
    started = launched(on_one_gpu(name, stage, qwen), 1)
    assert (started["device"], started["gpus"], started["steps"]) == (Device.CUDA, 1, STEPS)
    check_fits_with_the_whole_vocabulary(started["argv"], qwen, 1)


def test_trainer_and_engine_apart_take_two(launched, qwen):
    started = launched([*two_steps("qwen7b", "stage2", qwen), *APART], 2)
    assert (started["gpus"], started["steps"]) == (2, STEPS)
    check_fits_with_the_whole_vocabulary(started["argv"], qwen, 2)


def test_a_simulator_has_the_time_that_its_preset_gives_it(launched, qwen, tmp_path):
    launched(on_one_gpu("zerosearch", "run", qwen), 1)
    retriever = RunConfig.read(tmp_path / "run" / "run.json").retriever
    assert (retriever.read_timeout, retriever.deadline) == (120, 300)


def check_fits_with_the_whole_vocabulary(argv: list[str], model: Path, gpus: int) -> None:
    shape = replace(find_shape(str(model)), vocabulary=VOCABULARY)
    planned = fit(shape, Layout(vars(parse_flags(argv))), Cards.parse(f"{gpus}x{SMALL_CARD}"))
    assert planned.complaint() == ""
