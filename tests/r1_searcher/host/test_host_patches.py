"""What every worker of a run changes in the host's modules, beside the extent of the run (`test_progress_actor`)."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from r1_searcher.host import cpu
from r1_searcher.host.command import build_command
from r1_searcher.host.device import Device
from r1_searcher.host.patches import empty_masks, engine_slots, tokenizer_by_name
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.run.run_config import RUN_VARIABLE, RetrieverConfig, RunConfig

RECIPE = find_recipe("tiny.stage1")


def test_a_tokenizer_is_sent_as_its_name_and_loaded_once(model):
    pytest.importorskip("openrlhf.utils.utils")
    from ray import cloudpickle
    from transformers import AutoTokenizer

    sent = AutoTokenizer.from_pretrained(model, padding_side="left")
    whole = len(cloudpickle.dumps(sent))
    tokenizer_by_name.travel_by_name(sent)
    pickled = cloudpickle.dumps({"prompt": "Who?", "hf_tokenizer": sent})
    assert len(pickled) < 500 < whole
    first, second = (cloudpickle.loads(pickled)["hf_tokenizer"] for _ in range(2))
    assert first is second
    assert first.padding_side == "left" and first.get_vocab() == sent.get_vocab()
    assert first("Who is the mayor?")["input_ids"] == sent("Who is the mayor?")["input_ids"]


def test_a_tokenizer_without_a_name_is_sent_whole():
    class Nameless:
        name_or_path = ""

    tokenizer_by_name.travel_by_name(Nameless())
    import copyreg

    assert Nameless not in copyreg.dispatch_table


def test_the_host_sends_the_generators_tokenizer_by_name(model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)

    class SamplesGenerator:
        def __init__(self, tokenizer):
            self.tokenizer = tokenizer

    (patch,) = tokenizer_by_name.PATCHES
    patch.apply(SimpleNamespace(SamplesGenerator=SamplesGenerator))
    assert SamplesGenerator(tokenizer).tokenizer is tokenizer
    from ray import cloudpickle

    assert str(model).encode() in cloudpickle.dumps(tokenizer)


def slots(*flags: str) -> int:
    words = ("--rollout.batch_size", "64", "--rollout.n_samples_per_prompt", "16", *flags)
    return build_command(RECIPE, Path("/run"), words, Device.CUDA).engine_slots


def test_an_engine_has_a_slot_for_each_of_its_episodes():
    assert slots("--vllm.num_engines", "1") == 1024
    assert slots("--vllm.num_engines", "3") == 342
    assert slots("--vllm.num_engines", "64") == 128
    assert slots("--rollout.batch_size", "4096") == 1024


def test_vllm_gives_the_hosts_engines_those_slots(tmp_path, monkeypatch):
    arg_utils = pytest.importorskip("vllm.engine.arg_utils")
    from vllm.usage.usage_lib import UsageContext

    RunConfig(str(tmp_path), RECIPE, RetrieverConfig("http://127.0.0.1:1"), engine_slots=512).write(tmp_path / "r.json")
    monkeypatch.setenv(RUN_VARIABLE, str(tmp_path / "r.json"))
    host = SimpleNamespace(EngineArgs=type("EngineArgs", (arg_utils.EngineArgs,), {}))
    (patch,) = engine_slots.PATCHES
    before = arg_utils.EngineArgs.get_batch_defaults(1)
    assert UsageContext.ENGINE_CONTEXT not in before[1], "vLLM has a default of its own now: drop the patch"
    patch.apply(host)
    tokens, sequences = host.EngineArgs().get_batch_defaults(1)
    assert sequences == {**before[1], UsageContext.ENGINE_CONTEXT: 512}
    assert tokens == {**before[0], UsageContext.ENGINE_CONTEXT: before[0][UsageContext.LLM_CLASS]}
    assert json.loads((tmp_path / "r.json").read_text())["engine_slots"] == 512


def test_a_mean_over_no_tokens_is_zero_and_others_are_the_hosts(monkeypatch):
    monkeypatch.setenv("R1_SEARCHER_CPU", "1")
    cpu.install()
    utils = pytest.importorskip("openrlhf.models.utils")
    import torch

    host = SimpleNamespace(masked_mean=None)
    empty_masks.PATCHES[0].apply(host)
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    mask = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    assert host.masked_mean(values, mask, dim=-1).tolist() == [2.0, 0.0]
    assert host.masked_mean(values, mask[1]).item() == 0.0
    for dim in (None, -1):
        assert torch.equal(host.masked_mean(values, mask[:1], dim=dim), utils.masked_mean(values, mask[:1], dim=dim))
        assert torch.equal(host.masked_mean(values, None, dim=dim), utils.masked_mean(values, None, dim=dim))


@pytest.mark.parametrize("token_level", [True, False])
def test_a_loss_over_no_tokens_is_zero_and_others_are_the_hosts(monkeypatch, token_level):
    monkeypatch.setenv("R1_SEARCHER_CPU", "1")
    cpu.install()
    aggregate = pytest.importorskip("openrlhf.models.loss").aggregate_loss
    import torch

    host = SimpleNamespace(aggregate_loss=aggregate)
    empty_masks.PATCHES[1].apply(host)
    losses, mask = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    for count in (torch.tensor(0.0), 0.0):
        predicted = losses.clone().requires_grad_(True)
        empty = host.aggregate_loss(predicted, 0 * mask, token_level, batch_num_tokens=count, global_batch_size=count)
        empty.backward()
        assert empty.item() == 0.0 and predicted.grad.abs().sum() == 0.0
    # Counts below 1: the host divides them by the micro-batches of an update.
    for count in (None, 1 / 3, torch.tensor(0.25), 7.0):
        counts = {"batch_num_tokens": count, "global_batch_size": count}
        assert torch.equal(*(each(losses, mask, token_level, **counts) for each in (host.aggregate_loss, aggregate)))


@pytest.mark.parametrize("tokens", [[0.0], [0.0, 0.0], [0.0, 12.0]])
def test_a_micro_batch_without_trained_tokens_does_not_end_the_training(tokens):
    """The statistics of `ppo_train`: each value weighs as many tokens as its micro-batch has."""

    class ActorPPOTrainer:
        def training_step(self, tokens):
            return {"metrics": {"policy_loss": 3.0 if tokens else 0.0}, "num_action_tokens": tokens}

    *_, of_actor = empty_masks.PATCHES
    of_actor.apply(SimpleNamespace(ActorPPOTrainer=ActorPPOTrainer))
    steps = [ActorPPOTrainer().training_step(count) for count in tokens]
    total = sum(step["num_action_tokens"] for step in steps)
    mean = sum(step["metrics"]["policy_loss"] * step["num_action_tokens"] for step in steps) / total
    assert mean == pytest.approx(3.0 if any(tokens) else 0.0)
