"""OpenRLHF's command line from a recipe and the user's own OpenRLHF flags. The user's flags win."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from foundation.cli import gives
from foundation.errors import InputError
from r1_searcher.host.device import Device
from r1_searcher.host.flags import merge_flags, parse_flags
from r1_searcher.recipe.recipe import Recipe
from r1_searcher.run.run_config import QuestionFilter
from r1_searcher.run.run_folder import RunFolder

MODEL_FLAG = "--actor.model_name_or_path"
LENGTH_FLAG = "--data.max_len"
"""OpenRLHF's flag for the tokens of an episode."""

AGENT_FILE = Path(__file__).with_name("agent.py")

CPU_FLAGS = (
    *("--actor.num_gpus_per_node", "1", "--ref.num_gpus_per_node", "1", "--critic.num_gpus_per_node", "1"),
    *("--vllm.num_engines", "1", "--vllm.sync_backend", "gloo", "--vllm.enforce_eager"),
    *("--ds.attn_implementation", "sdpa"),
)
"""Replacements, without a GPU, for OpenRLHF's defaults of eight GPUs, NCCL and flash attention."""

ASYNC_FLAGS = ("--algo.advantage.is_correction_level", "token")
"""Asynchronous training learns from tokens that older weights sampled; OpenRLHF's default corrects nothing for it."""

OURS = {
    "--train.agent_func_path": "--recipe",
    "--data.prompt_dataset": "--data",
    "--data.input_key": "--data",
    "--data.label_key": "--data",
    "--reward.remote_url": "--reward-url",
    "--ckpt.path": "--run-dir",
    "--logger.tensorboard_dir": "--run-dir",
}
"""OpenRLHF flags that an option of ours stands for; given as they are, they would be ignored or break a resume."""

_NOT_IN_PATHS = (",", "@", "[", "]", "*", "?", "$", "::")
"""OpenRLHF splits paths of data at the first two; datasets reads the others as patterns, variables and protocols."""


@dataclass(frozen=True)
class Command:
    """The flags, and what OpenRLHF's own parser makes of them."""

    argv: tuple[str, ...]
    flags: Namespace

    def get(self, name: str) -> object:
        """Value of `--name`."""
        return vars(self.flags)[name]

    def number(self, name: str) -> int:
        """Integer value of `--name`; 0 where it has none."""
        return int(vars(self.flags)[name] or 0)

    def pair(self, name: str) -> tuple[float, float]:
        """Value of a `--name LOW HIGH`."""
        low, high = map(float, vars(self.flags)[name])
        return low, high

    @property
    def gpus(self) -> int:
        """GPUs (logical ones without CUDA) that the run's placement asks for."""
        engines = self.number("vllm.num_engines") * self.number("vllm.tensor_parallel_size")
        actors = self.number("actor.num_nodes") * self.number("actor.num_gpus_per_node")
        references = self.number("ref.num_nodes") * self.number("ref.num_gpus_per_node")
        critics = self.number("critic.num_nodes") * self.number("critic.num_gpus_per_node")
        # Asynchronous training keeps the engines apart even where everything else shares its GPUs.
        shared = self.get("train.colocate_all") and not self.get("train.async_enable")
        total = actors if shared else actors + engines
        if self.get("algo.kl.init_coef") and not (
            self.get("train.colocate_actor_ref") or self.get("train.colocate_all")
        ):
            total += references
        if self.has_critic and not self.get("train.colocate_all"):
            total += critics
        return total

    @property
    def ranks(self) -> dict[str, int]:
        """Ranks that share the samples of a rollout, of each model that the run has: actor, reference, critic.

        GPUs that hold one sequence together (ring attention, tensor parallel) are one rank; see
        `RayActorGroup.async_run_method_batch` (openrlhf/trainer/ray/launcher.py).

        Raises:
            InputError: they do not divide a model's GPUs.
        """
        together = self.number("ds.ring_attn_size") * self.number("ds.tensor_parallel_size")
        models = {"actor": True, "ref": self.get("algo.kl.init_coef"), "critic": self.has_critic}
        found = {}
        for model in (name for name, there in models.items() if there):
            gpus = self.number(f"{model}.num_nodes") * self.number(f"{model}.num_gpus_per_node")
            if gpus < 1 or together < 1 or gpus % together:
                raise InputError(
                    f"{gpus} GPUs of the {model} are no multiple of {together} that hold one sequence together "
                    "(--ds.ring_attn_size x --ds.tensor_parallel_size)"
                )
            found[model] = gpus // together
        return found

    @property
    def has_critic(self) -> bool:
        """Whether the run trains a critic."""
        return self.get("algo.advantage.estimator") == "gae"

    @property
    def questions_per_step(self) -> int:
        """Questions of a full step: the rollout's batch, or a smaller one that is drawn at a time."""
        batch = self.number("rollout.batch_size")
        return min(self.number("rollout.vllm_generate_batch_size") or batch, batch)

    @property
    def engine_slots(self) -> int:
        """Episodes that an engine may play at the same time: its share of a step, within vLLM's own defaults.

        128 is what vLLM takes without a default for its use, 1,024 is its highest (`EngineArgs.get_batch_defaults`).
        """
        episodes = self.questions_per_step * self.number("rollout.n_samples_per_prompt")
        return min(max(128, -(-episodes // self.number("vllm.num_engines"))), 1024)

    def given(self, name: str) -> bool:
        """Whether the command line holds `--name`."""
        return gives(self.argv, f"--{name}")

    @property
    def question_filter(self) -> QuestionFilter | None:
        """Which questions are trained on; None without filtering. OpenRLHF's rule holds where its range is given."""
        if not self.get("algo.dynamic_filtering_enable"):
            return None
        given = self.given("algo.dynamic_filtering_range")
        return QuestionFilter(self.pair("algo.dynamic_filtering_range") if given else None)


def build_command(recipe: Recipe, run_dir: Path, user_flags: Sequence[str], device: Device) -> Command:
    """The whole command line. Raises `InputError` for flags that the installed OpenRLHF does not take."""
    refuse_flags_of_ours(user_flags, OURS)
    check_data_path("--run-dir", run_dir)
    folder = RunFolder(run_dir)
    seam = (
        *("--train.agent_func_path", str(AGENT_FILE)),
        *("--data.prompt_dataset", str(folder.data_file)),
        *("--data.input_key", "input", "--data.label_key", "label"),
        *("--data.max_len", str(recipe.limits.max_length)),
        *("--ckpt.path", str(folder.checkpoints), "--ckpt.output_dir", str(folder.model)),
        *("--ckpt.load_enable", "--ckpt.best_metric_key", "none"),
        *("--logger.tensorboard_dir", str(folder.tensorboard), "--logger.wandb.run_name", run_dir.name),
        *("--vllm.num_engines", "1", "--vllm.enable_prefix_caching"),
    )
    defaults = (*seam, *(CPU_FLAGS if device is Device.CPU else ()))
    argv = merge_flags(defaults, user_flags)
    if vars(parse_flags(argv))["train.async_enable"]:
        argv = merge_flags(defaults, ASYNC_FLAGS, user_flags)
    flags = parse_flags(argv)
    if vars(flags)["vllm.num_engines"] < 1:
        raise InputError("--vllm.num_engines must be at least 1: episodes are played on vLLM engines")
    if vars(flags)["ds.lora.rank"]:
        # PolicyModelActor.broadcast_to_vllm sends adapters under PEFT's names, which vLLM's model does not have.
        raise InputError(
            "the installed OpenRLHF cannot send LoRA weights to the rollout engines; leave out --ds.lora.rank "
            "(fine-tuning with r1_searcher.sft takes it)"
        )
    return Command(tuple(argv), flags)


def refuse_flags_of_ours(user_flags: Sequence[str], ours: Mapping[str, str]) -> None:
    """Refuse OpenRLHF flags that an option of ours stands for. Raises `InputError`, naming the option.

    Args:
        user_flags: as the user gave them.
        ours: OpenRLHF's flags, each with the option to use.
    """
    if taken := [flag for flag in ours if gives(user_flags, flag)]:
        raise InputError(f"{taken[0]} is set by {ours[taken[0]]}; use that instead")


def check_data_path(flag: str, path: Path) -> None:
    """Refuse a path to data that OpenRLHF would split or read as a pattern. Raises `InputError`."""
    if found := next((text for text in _NOT_IN_PATHS if text in str(path)), ""):
        raise InputError(
            f"{flag} must not contain {found!r}: OpenRLHF and datasets take it for more than a name in a path to "
            f"data ({path})"
        )


def with_length_of(recipe: Recipe, command: Command) -> Recipe:
    """The recipe with the context length that the command gives the engine."""
    return replace(recipe, limits=replace(recipe.limits, max_length=command.number("data.max_len")))
