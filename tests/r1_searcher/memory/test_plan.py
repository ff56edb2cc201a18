"""The plan of memory against arithmetic made by hand, against each of its flags, and against every preset."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import InputError
from r1_searcher.doctor.__main__ import main
from r1_searcher.host.command import build_command
from r1_searcher.host.device import Device
from r1_searcher.memory.cpu import plan_cpu
from r1_searcher.memory.fit import Cards, Fit, advice, fit
from r1_searcher.memory.layout import Layout, Role
from r1_searcher.memory.phases import GIB, PhaseMemory, StepPhase, logits_bytes
from r1_searcher.memory.shape import KNOWN, ModelShape, find_shape
from r1_searcher.memory.storage import disk_space, host_memory
from r1_searcher.recipe.presets import find_preset, shipped_presets
from r1_searcher.recipe.recipe import find_recipe

CARDS = Cards.parse("8x80")
QWEN7B = KNOWN["Qwen/Qwen2.5-7B"]
COLOCATED = (
    *("--actor.num_gpus_per_node", "8", "--ref.num_gpus_per_node", "8", "--critic.num_gpus_per_node", "8"),
    *("--vllm.num_engines", "8", "--train.colocate_all", "--vllm.enable_sleep", "--ds.enable_sleep"),
    *("--vllm.gpu_memory_utilization", "0.6", "--vllm.enforce_eager", "--actor.gradient_checkpointing_enable"),
    *("--ds.packing_samples", "--data.max_len", "6548", "--algo.kl.init_coef", "0.001"),
)
PPO = (*COLOCATED, "--algo.advantage.estimator", "gae")
GRPO = (*COLOCATED, "--algo.advantage.estimator", "group_norm")
APART = ("--actor.num_gpus_per_node", "4", "--algo.kl.init_coef", "0", "--algo.advantage.estimator", "reinforce")


def layout(*flags: str) -> Layout:
    return Layout(vars(build_command(find_recipe("search_r1"), Path("/run"), flags, Device.CUDA).flags))


def planned(*flags: str, shape: ModelShape = QWEN7B, cards: Cards = CARDS) -> Fit:
    return fit(shape, layout(*flags), cards)


def phase_of(found: Fit, phase: StepPhase, group: int = 0) -> PhaseMemory:
    return next(each for each in found.plans[group].phases if each.phase is phase)


def gib(found: Fit, phase: StepPhase, *parts: str) -> float:
    """The named parts of the first group's phase, all of them where none is named."""
    sizes = phase_of(found, phase).parts
    return sum(sizes.get(part, 0.0) for part in parts or sizes) / GIB


MODELS = ("weights", "reference", "critic", "engine")


@pytest.mark.parametrize(
    ("flags", "by_hand"),
    [
        (PPO, 89.3),  # 14.2 + 14.2 + 13.2 + 0.6 x 79.6
        (GRPO, 76.1),  # without the critic
        ((*GRPO, "--ds.zero_stage", "3"), 51.4),  # weights and reference in eighths
    ],
)
def test_a_colocated_7b_when_its_engine_wakes_up(flags, by_hand):
    assert gib(planned(*flags), StepPhase.GENERATION, *MODELS) == pytest.approx(by_hand, rel=0.03)


@pytest.mark.parametrize(("entropy", "by_hand"), [(False, 46), (True, 84)])
def test_logits_of_a_sequence_of_32768_tokens(entropy, by_hand):
    assert logits_bytes(32_768, QWEN7B.vocabulary, entropy=entropy) / GIB == pytest.approx(by_hand, rel=0.03)
    given = ("--actor.entropy_coef", "0.001") if entropy else ()
    found = planned(*COLOCATED, "--data.max_len", "32768", "--algo.advantage.estimator", "group_norm", *given)
    assert gib(found, StepPhase.UPDATE, "logits") == pytest.approx(by_hand, rel=0.03)


def test_states_of_an_update_by_hand():
    """ZeRO-2 on eight GPUs: 12 bytes of optimizer and 2 of gradients per parameter are sharded, weights are not."""
    update = planned(*GRPO)
    assert gib(update, StepPhase.UPDATE, "weights", "reference") == pytest.approx(28.4, rel=0.01)
    assert gib(update, StepPhase.UPDATE, "optimizer") == pytest.approx(10.6, rel=0.01)
    assert gib(update, StepPhase.UPDATE, "gradients") == pytest.approx(1.8, rel=0.02)
    assert gib(planned(*GRPO, "--ds.grad_accum_dtype", "fp32"), StepPhase.UPDATE, "gradients") == pytest.approx(
        3.55, rel=0.01
    )


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # as the hub counts them in the published weights
        ("Qwen/Qwen2.5-0.5B", 494_032_768),
        ("Qwen/Qwen2.5-1.5B", 1_543_714_304),
        ("Qwen/Qwen2.5-3B", 3_085_938_688),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen2.5-14B", 14_770_033_664),
        ("Qwen/Qwen2.5-32B", 32_763_876_352),
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("Qwen/Qwen3-1.7B", 1_720_574_976),
        ("Qwen/Qwen3-4B", 4_022_468_096),
        ("Qwen/Qwen3-8B", 8_190_735_360),
        ("meta-llama/Llama-3.2-1B", 1_235_814_400),
        ("meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824),
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
    ],
)
def test_a_known_shape_has_the_published_number_of_parameters(name, parameters):
    assert find_shape(name).parameters == parameters


def test_a_folder_is_measured_by_its_configuration(model, tmp_path):
    """The tiny base: counted in its weights, and planned from its config.json."""
    from safetensors import safe_open

    with safe_open(model / "model.safetensors", "pt") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    counted = sum(rows * (columns[0] if columns else 1) for rows, *columns in shapes)
    assert find_shape(str(model)).parameters == counted
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 8}))
    with pytest.raises(InputError, match="no intermediate_size"):
        find_shape(str(tmp_path))
    with pytest.raises(InputError, match=r"not known here; .*Qwen/Qwen2\.5-7B"):
        find_shape("org/own")


def test_keys_and_values_of_one_token():
    assert QWEN7B.cache_bytes_per_token == 2 * 2 * 28 * 4 * 128


CHANGES = [
    (("--ds.zero_stage", "3"), StepPhase.UPDATE, {"weights", "reference", "gathered"}),
    (("--ds.zero_stage", "1"), StepPhase.UPDATE, {"gradients"}),
    (("--ds.overlap_comm",), StepPhase.UPDATE, {"buckets"}),
    (("--ds.adam_offload",), StepPhase.UPDATE, {"optimizer"}),
    (("--train.enable_ema",), StepPhase.UPDATE, {"average"}),
    (("--ds.ring_attn_size", "2"), StepPhase.UPDATE, {"logits", "activations"}),
    (("--ds.tensor_parallel_size", "2"), StepPhase.UPDATE, {"weights", "reference"}),
    (("--actor.entropy_coef", "0.001"), StepPhase.UPDATE, {"logits"}),
    (("--train.micro_batch_size", "2"), StepPhase.UPDATE, {"logits", "activations"}),
    (("--rollout.micro_batch_size", "2"), StepPhase.LOG_PROBS, {"logits", "activations"}),
    (
        ("--train.dynamic_batch_enable", "--train.max_tokens_per_gpu", "9000"),
        StepPhase.UPDATE,
        {"logits", "activations"},
    ),
    (("--vllm.gpu_memory_utilization", "0.5"), StepPhase.GENERATION, {"engine"}),
    (("--vllm.tensor_parallel_size", "2", "--vllm.num_engines", "4"), StepPhase.SAVE, {"engine"}),
    (("--algo.kl.init_coef", "0"), StepPhase.LOG_PROBS, {"reference", "contexts"}),
    (("--algo.advantage.estimator", "gae"), StepPhase.GENERATION, {"critic", "contexts"}),
]


@pytest.mark.parametrize(("flags", "phase", "parts"), CHANGES, ids=[" ".join(flags) for flags, *_ in CHANGES])
def test_every_placement_flag_changes_the_part_that_it_is_about(flags, phase, parts):
    before, after = (phase_of(planned(*words), phase).parts for words in (GRPO, (*GRPO, *flags)))
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert changed == parts


def test_states_leave_the_gpu_only_where_they_sleep():
    awake = tuple(word for word in GRPO if word not in ("--ds.enable_sleep", "--vllm.enable_sleep"))
    assert gib(planned(*GRPO), StepPhase.GENERATION, "optimizer", "gradients") == 0
    assert gib(planned(*awake), StepPhase.GENERATION, "optimizer", "gradients") == pytest.approx(12.4, rel=0.01)
    assert gib(planned(*GRPO), StepPhase.UPDATE, "engine") == 0
    assert gib(planned(*awake), StepPhase.UPDATE, "engine") == pytest.approx(47.8, rel=0.01)
    graphs = tuple(word for word in GRPO if word != "--vllm.enforce_eager")
    assert gib(planned(*graphs), StepPhase.UPDATE, "engine") > 0, "a sleeping engine keeps its CUDA graphs"
    offloaded = (*GRPO, "--ref.offload")
    assert gib(planned(*offloaded), StepPhase.UPDATE, "reference") > 14, "DeepSpeed offloads parameters in stage 3 only"
    assert gib(planned(*offloaded, "--ds.zero_stage", "3"), StepPhase.UPDATE, "reference") == 0


def test_roles_lie_where_openrlhf_puts_them():
    def roles(*flags: str) -> list[tuple[int, set[Role]]]:
        return [(group.gpus, set(group.roles)) for group in layout(*flags).groups]

    actor, reference, critic, engine = Role
    assert roles(*PPO) == [(8, {actor, reference, critic, engine})]
    without_sleep = tuple(word for word in PPO if word != "--vllm.enable_sleep")
    assert roles(*without_sleep, "--train.async_enable") == [(8, {actor, reference, critic}), (8, {engine})]
    assert roles(*APART, "--vllm.tensor_parallel_size", "2") == [(4, {actor}), (2, {engine})]
    kl = (*APART, "--algo.kl.init_coef", "0.1", "--ref.num_gpus_per_node", "4")
    assert roles(*kl) == [(4, {actor}), (4, {reference}), (1, {engine})]
    assert roles(*kl, "--train.colocate_actor_ref") == [(4, {actor, reference}), (1, {engine})]
    assert layout(*kl).groups and sum(group.gpus for group in layout(*kl).groups) == 9


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["1", "2", "3"]), st.sampled_from([2048, 6144, 24576, 49152]), st.sampled_from([0.4, 0.7, 0.9]),
    st.booleans(), st.sampled_from([24, 40, 80]),
)  # fmt: skip
def test_the_advice_makes_it_fit(stage, length, share, critic, size):
    """Whatever does not fit: the flags that are named, given after the others, make it fit."""
    flags = (*(PPO if critic else GRPO), "--ds.zero_stage", stage, "--data.max_len", str(length))
    flags = (*flags, "--vllm.gpu_memory_utilization", str(share))
    found = planned(*flags, cards=Cards.parse(f"8x{size}"))
    words = advice(found)
    assert found.complaint() == "" if found.fits else "\n" not in found.complaint() != ""
    if words and not found.fits:
        assert planned(*flags, *words.split(), cards=Cards.parse(f"8x{size}")).fits


GPU_PRESETS = [
    (name, stage) for name, preset in shipped_presets().items() if preset.device == "cuda" for stage in preset.stages
]


@pytest.mark.parametrize(("name", "stage"), GPU_PRESETS)
def test_a_preset_fits_with_a_reserve_on_the_machine_it_names(name, stage):
    preset = find_preset(name)
    gpus = int(re.search(r"(\d+) GPU", preset.title)[1])
    flags = build_command(
        find_recipe(preset.stages[stage].recipe), Path("/run"), preset.flag_words(preset.stages[stage]), Device.CUDA
    ).flags
    found = fit(find_shape(preset.model), Layout(vars(flags)), Cards.parse(f"{gpus}x80"))
    assert found.complaint() == "" and found.has_reserve, found.free_bytes / GIB


def test_ram_and_disk_by_hand():
    run = layout(*PPO, "--ckpt.save_steps", "100", "--ckpt.max_num", "3", "--ds.zero_stage", "3")
    ram = {name: size / GIB for name, size in host_memory(QWEN7B, QWEN7B, run).parts.items()}
    assert ram["sleeping engines"] == pytest.approx(8 * 14.2, rel=0.01)
    assert ram["sleeping optimizer"] == pytest.approx(14 * (7.616 + 7.071) / 1.0737, rel=0.01)
    assert ram["saving"] == pytest.approx(14.2, rel=0.01)
    below = layout(*PPO, "--ds.zero_stage", "2")
    assert host_memory(QWEN7B, QWEN7B, below).parts["saving"] == pytest.approx(8 * 2 * 7.6156e9, rel=0.01)
    disk = disk_space(QWEN7B, QWEN7B, run)
    assert disk.checkpoint / 1e9 == pytest.approx(107 + 99, rel=0.01) and disk.kept == 4
    assert disk_space(QWEN7B, QWEN7B, below).kept == 0, "no --ckpt.save_steps, no checkpoints"


def test_a_measured_run_without_a_gpu():
    """One step of the tiny preset's flags with a random Llama of 168 M parameters, four episodes of 66 tokens.

    Largest resident memory of the processes of that run, as Linux counts it (`VmHWM`): everything in the process is
    counted, libraries too. The plan is for the lengths that the run had.
    """
    shape = ModelShape(1024, 2816, 12, 16, 4, 32_000, tied=True)
    assert shape.parameters == 168_059_904
    flags = ("--train.micro_batch_size", "4", "--train.batch_size", "4", "--data.max_len", "66")
    run = layout(*flags, "--algo.kl.init_coef", "0", "--algo.advantage.estimator", "reinforce_baseline")
    measured = {"actor": 4_529_900, "engine": 2_148_168, "others": 709_144 + 713_752 + 711_784 + 677_100 + 621_508}
    planned = plan_cpu(shape, run).processes
    assert {name: size / 1024 for name, size in planned.items()} == pytest.approx(measured, rel=0.15)
    assert planned["actor"] / 1024 == pytest.approx(measured["actor"], rel=0.05)


def test_a_large_model_at_a_short_length_peaks_in_the_optimizer_step():
    found = planned(*GRPO, "--data.max_len", "1024", shape=KNOWN["Qwen/Qwen2.5-14B"])
    assert gib(found, StepPhase.UPDATE, "logits") == 0
    assert gib(found, StepPhase.UPDATE, "gradient copies") == pytest.approx(6 * 14.77 / 8 / 1.0737, rel=0.01)


def test_an_engine_whose_cache_holds_no_episode_is_found():
    found = planned(*GRPO, "--vllm.gpu_memory_utilization", "0.19", "--ds.zero_stage", "3")
    assert not found.fits and "less than one episode of 6,548" in found.complaint()
    assert advice(found) == "--vllm.gpu_memory_utilization 0.2"


def test_the_doctor_plans_a_preset_without_its_model(capsys):
    assert main(["--preset", "search_r1_ppo", "--gpus", "8x80"]) == 0
    said = capsys.readouterr().out
    for word in ("generation", "log-probs", "critic update", "save", "logits", "RAM", "disk", "cache of"):
        assert word in said
    assert said.splitlines()[-1].startswith("fits: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "search_r1_ppo", "--ds.zero_stage", "2"], "does not fit: update .* -> --ds.zero_stage 3"),
        (
            ["--preset", "deep_researcher", "--max-length", "32768"],
            "does not fit: update .*logits .* -> --data.max_len",
        ),
        (["--preset", "qwen7b", "--gpus", "4x80"], "ask for 6 GPUs, there are 4"),
        (["--recipe", "search_r1", "--model", "Qwen/Qwen2.5-32B", *GRPO, "--data.max_len", "32768"], "does not fit"),
    ],
)
def test_the_doctor_says_what_does_not_fit_and_what_would(capsys, arguments, words):
    assert main(["--gpus", "8x80", *arguments]) == 2

    assert re.search(words, capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("text", ["80", "8", "x80", "0x80", "8x", "8x-1", "axb"])
def test_a_bad_machine_is_one_line(capsys, text):
    assert main(["--preset", "qwen7b", f"--gpus={text}"]) == 2
    assert "COUNTxGB, such as 8x80" in capsys.readouterr().err
