"""A checkpoint of a run as a Hugging Face model, and what stands beside its weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.models.zero_checkpoint import write_zero2

from foundation.errors import InputError
from r1_searcher import export
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.run.run_config import RetrieverConfig, RunConfig
from r1_searcher.run.trained_with import FILE_NAME, TrainedWith

RECIPE = find_recipe("tiny.stage2")
SHORT = replace(RECIPE, limits=replace(RECIPE.limits, max_length=200))


@pytest.fixture(scope="module")
def trained(model):
    """The tiny model with other weights."""
    import torch
    from transformers import AutoModelForCausalLM

    changed = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += 1e-3
    return changed


@pytest.fixture
def run(tmp_path, model, trained) -> Path:
    """A run of two ranks, stopped after step 20."""
    folder = tmp_path / "run"
    for step in (10, 20):
        write_zero2(folder / "checkpoints" / "_actor" / f"global_step{step}", trained, ranks=2)
    (folder / "checkpoints" / "_actor" / "latest").write_text("global_step20")
    (folder / "identity.json").write_text(json.dumps({"flags": {"--actor.model_name_or_path": str(model)}}))
    RunConfig(str(folder), SHORT, RetrieverConfig("http://127.0.0.1:1")).write(folder / "run.json")
    return folder


def test_an_exported_model_is_the_trained_one(run, model, trained, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "model"
    assert export.main([str(run), "--step", "10", "--out", str(out)]) == 0
    loaded = AutoModelForCausalLM.from_pretrained(out)
    assert loaded.dtype is torch.bfloat16
    for name, value in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.bfloat16()), name
    template = AutoTokenizer.from_pretrained(model).chat_template
    assert AutoTokenizer.from_pretrained(out).chat_template == template
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] is not None
    assert TrainedWith.read(out) == TrainedWith(SHORT, (), str(model), 10)


def test_the_doctor_passes_an_exported_model(run, tmp_path, capsys):
    from r1_searcher.doctor.__main__ import main as doctor

    out = tmp_path / "model"
    assert export.main([str(run), "--out", str(out)]) == 0
    assert doctor(["--recipe", "tiny.stage2", "--model", str(out)]) == 0, capsys.readouterr().out


def test_the_newest_checkpoint_goes_into_the_runs_folder(run, trained):
    import torch
    from safetensors.torch import load_file

    assert export.main([str(run), "--dtype", "fp32"]) == 0
    weights = load_file(run / "export" / "global_step20" / "model.safetensors")
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in weights.items())
    assert sorted(path.name for path in (run / "export").iterdir()) == ["global_step20"]


@pytest.mark.parametrize(
    ("arguments", "spoil", "complaint"),
    [
        (["--step", "15"], None, "no whole checkpoint of step 15 in {run}; there are [10, 20]"),
        (["--out", "{run}"], None, "{run} is there already"),
        ([], "identity.json", "cannot read {run}/identity.json"),
        ([], "checkpoints/_actor/latest", "holds no whole checkpoint"),
        (
            ["--step", "20"],
            "checkpoints/_actor/global_step20/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt",
            "no whole checkpoint of step 20 in {run}; there are [10]",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(run, capsys, arguments, spoil, complaint):
    if spoil:
        (run / spoil).unlink()
    assert export.main([str(run), *(word.format(run=run) for word in arguments)]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("r1_searcher.export: ")]
    assert len(said) == 1 and complaint.format(run=run) in said[0]
    assert not (run / "export").exists()


def test_a_checkpoint_of_another_model_is_refused(run, model, capsys, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for file in model.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((model / "config.json").read_text())
    config["num_hidden_layers"] += 1
    config.pop("layer_types", None)
    (other / "config.json").write_text(json.dumps(config))
    (run / "identity.json").write_text(json.dumps({"flags": {"--actor.model_name_or_path": str(other)}}))
    assert export.main([str(run)]) == 2
    assert "is no checkpoint of the model" in capsys.readouterr().err
    assert not list((run / "export").iterdir())


def test_a_model_says_what_it_was_trained_with(tmp_path):
    written = TrainedWith(SHORT, (), "org/base", 7)
    written.write(tmp_path)
    assert TrainedWith.read(str(tmp_path)) == written
    assert TrainedWith.read(tmp_path / "base_model") is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"recipe": 1, "plugins": [], "base_model": "", "step": 1}'])
def test_a_file_that_says_something_else_is_refused(tmp_path, text):
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(InputError, match=FILE_NAME):
        TrainedWith.read(tmp_path)


@pytest.mark.parametrize(
    "changes", [{"step": "7"}, {"base_model": {}}, {"plugins": "ab"}, {"recipe": {"name": "x"}}], ids=str
)
def test_a_value_of_another_type_is_refused(tmp_path, changes):
    TrainedWith(SHORT, (), "org/base", 7).write(tmp_path)
    written = json.loads((tmp_path / FILE_NAME).read_text())
    (tmp_path / FILE_NAME).write_text(json.dumps(written | changes))
    with pytest.raises(
        InputError, match=f"{FILE_NAME} does not say what the model was trained with: .*xpected|missing"
    ):
        TrainedWith.read(tmp_path)
