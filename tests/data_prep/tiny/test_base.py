"""The shipped tiny base model: its exact files, a weak policy with its skill intact, and the command that builds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.models.dialect_tokenizers import dialect_tokenizer

from data_prep.tiny import base as tiny_base
from data_prep.tiny.dialects import DIALECTS
from data_prep.tiny.facts import Question
from data_prep.tiny.rollout import BatchedPolicy, play, right_searches, summary
from r1_searcher.episode.prompting import render_prompt
from r1_searcher.episode.tokenization import HFTokenizer
from r1_searcher.episode.trajectory import StopReason
from r1_searcher.recipe.protocols import R1_SEARCHER_CHAT
from retriever.index.bm25 import Bm25Index

DIALECT = DIALECTS[tiny_base.SHIPPED]


@pytest.fixture(scope="module")
def shipped() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base.FOLDER, local_files_only=True)


@pytest.fixture(scope="module")
def model() -> Any:
    import torch

    torch.set_num_threads(1)
    return tiny_base.load(tiny_base.FOLDER)


def test_shipped_tokenizer_is_the_rebuilt_one(shipped: Any, tmp_path: Path) -> None:
    rebuilt = dialect_tokenizer(tiny_base.SHIPPED)
    rebuilt.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (tiny_base.FOLDER / name).read_bytes()
    assert shipped.backend_tokenizer.to_str() == rebuilt.backend_tokenizer.to_str()


@pytest.mark.parametrize("text", ["", " ", "Zürich 東京\n\t<answer>x</answer>", "(1) Film A : b\r\n", "a  b   c"])
def test_any_text_survives(shipped: Any, text: str) -> None:
    tokenizer = HFTokenizer(shipped)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_chat_template(shipped: Any, questions: list[Question]) -> None:
    prompt = render_prompt(R1_SEARCHER_CHAT, questions[0].row("q"), HFTokenizer(shipped))
    assert prompt.startswith("System : You answer")
    assert prompt.endswith(f"\nUser : {questions[0].text}\nAssistant : <think>")


def test_shipped_model_is_small_and_complete(model: Any, shipped: Any) -> None:
    assert (tiny_base.FOLDER / "model.safetensors").stat().st_size < 3_000_000
    assert model.config.vocab_size >= len(shipped) and model.config.vocab_size % 64 == 0
    assert model.config.hidden_size // model.config.num_attention_heads == 32
    assert model.generation_config.eos_token_id == shipped.eos_token_id


def test_shipped_model_is_a_weak_base_with_its_skill_intact(
    model: Any, shipped: Any, index: Bm25Index, questions: list[Question]
) -> None:
    def figures(temperature: float, force: bool = False) -> dict[str, float]:
        policy = BatchedPolicy(model, shipped, temperature, seed=0)
        written = right_searches(DIALECT, questions) if force else ()
        return summary(DIALECT, play(DIALECT, policy, shipped, index, questions, written))

    sampled = figures(1.0)
    assert 0.05 < sampled["retrieval"] < 0.5 and sampled["f1"] < 0.25 and sampled["format"] > 0.4
    assert figures(0.0)["f1"] < 0.3
    forced = figures(0.0, force=True)
    assert forced["retrieval"] == 1.0 and forced["f1_1hop"] > 0.9 and forced["f1_2hop"] > 0.75


def test_playing_twice_is_the_same(model: Any, shipped: Any, index: Bm25Index, questions: list[Question]) -> None:
    one, two = (
        play(DIALECT, BatchedPolicy(model, shipped, 1.0, seed=5), shipped, index, questions[:8]) for _ in range(2)
    )
    assert [episode.ids for episode in one] == [episode.ids for episode in two]
    assert {episode.stop_reason for episode in one} <= set(StopReason)


def test_tokenizer_only(tmp_path: Path) -> None:
    out = tmp_path / "new" / "base"
    assert tiny_base.main(["--protocol", "search_r1.tiny", "--out", str(out), "--tokenizer-only"]) == 0
    assert "<search>" in (out / "tokenizer.json").read_text() and not (out / "model.safetensors").exists()


@pytest.fixture
def fake_build(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces minutes of training; lists the folders that it was to write to."""
    folders: list[Path] = []

    def build(dialect: Any, out: Path, seed: int, difficulty: Any) -> dict[str, object]:
        folders.append(out)
        metrics = {"protocol": dialect.name, "seed": seed}
        if difficulty.name != "quickstart":  # models of earlier versions do not say it
            metrics["difficulty"] = difficulty.of_the_base
        (out / "model.safetensors").write_text(f"weights {len(folders)}")
        (out / tiny_base.METRICS).write_text(json.dumps(metrics))
        return dict(metrics)

    monkeypatch.setattr(tiny_base, "build", build)
    return folders


def command(protocol: str, out: Path, *flags: str) -> int:
    return tiny_base.main(["--protocol", protocol, "--out", str(out), *flags])


def test_a_finished_model_is_not_built_again(fake_build: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "runs" / "base"
    assert command("search_r1.tiny", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["metrics.json", "model.safetensors"]
    assert list(out.parent.iterdir()) == [out]  # the draft beside it is gone
    # ZeroSearch's exchange is the same, so this base is its own as well
    assert command("search_r1.tiny", out) == command("zerosearch.tiny", out) == 0
    assert len(fake_build) == 1 and fake_build[0] != out
    assert command("search_r1.tiny", out, "--overwrite") == 0
    assert (out / "model.safetensors").read_text() == "weights 2"


def test_a_model_of_a_harder_world_is_known_again(fake_build: list[Path], tmp_path: Path) -> None:
    words = ("--world", "findings")
    assert command("r1_searcher.tiny", tmp_path, *words) == command("r1_searcher.tiny", tmp_path, *words) == 0
    assert len(fake_build) == 1 and command("r1_searcher.tiny", tmp_path) == 2
    assert tiny_base.main(["--world", "findings"]) == 2, "the shipped folder is the quickstart's"


def test_what_an_interrupted_build_left_is_built_over(fake_build: list[Path], tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("half")
    assert command("research.tiny", tmp_path) == 0
    assert (tmp_path / "model.safetensors").read_text() == "weights 1"


def test_a_failing_build_leaves_nothing(
    fake_build: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(dialect: Any, out: Path, seed: int, difficulty: Any) -> dict[str, object]:
        (out / "model.safetensors").write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(tiny_base, "build", build)
    with pytest.raises(OSError, match="no space"):
        command("research.tiny", tmp_path / "base")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("deep_researcher.tiny",), "protocol: there 'research.tiny', here 'deep_researcher.tiny'"),
        (("research.tiny", "--seed", "1"), "seed: there 0, here 1"),
        (("research.tiny", "--world", "findings"), "difficulty comparisons: there 0.0, here 0.1"),
    ],
)
def test_another_model_is_not_replaced(
    fake_build: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    assert command("research.tiny", tmp_path) == 0
    assert command(flags[0], tmp_path, *flags[1:]) == 2
    error = capsys.readouterr().err
    assert said in error and "--overwrite" in error and error.count("\n") == 1
    assert (tmp_path / "model.safetensors").read_text() == "weights 1"


@pytest.mark.parametrize("content", ["{", "[]", '{"loss": 1}'])
def test_what_is_no_tiny_base_is_not_replaced(
    fake_build: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / tiny_base.METRICS).write_text(content)
    assert command("research.tiny", tmp_path) == command("research.tiny", tmp_path / tiny_base.METRICS) == 2
    error = capsys.readouterr().err
    assert "seed: there None, here 0" in error and "must be a folder" in error and not fake_build


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--protocol", "search_r1", "--out", "x"], "search_r1.tiny"), (["--protocol", "research.tiny"], "--out")],
)
def test_bad_input_is_one_line(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tiny_base.main(flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_the_shipped_model_counts_as_finished(fake_build: list[Path]) -> None:
    assert tiny_base.main([]) == 0 and not fake_build


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("protocol", sorted({dialect.name for dialect in DIALECTS.values()}))
def test_building_gives_a_weak_base_with_its_skill_intact(protocol: str, tmp_path: Path) -> None:
    """Bit for bit on one machine; elsewhere rounding differs, and the figures stay close."""
    assert command(protocol, tmp_path) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["skill_again"]["f1"] >= 0.95 and metrics["skill_again"]["f1_2hop"] >= 0.9
    base = metrics["base"]
    assert 0.1 < base["sampled"]["retrieval"] < 0.5 and base["sampled"]["f1"] < 0.2 and base["greedy"]["f1"] < 0.3
    assert 0.4 < base["sampled"]["format"] < 0.9
    assert base["greedy_after_right_search"]["f1_1hop"] > 0.9
