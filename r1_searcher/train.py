"""Train a policy with OpenRLHF: `python -m r1_searcher.train --recipe NAME --run-dir DIR --data FILE …`.

With `--preset NAME` (see `--list-presets`) all that is left out comes from the preset, the tiny world's services too.
Options of ours have no dot in their name. Everything else is passed to OpenRLHF, whose flags win over the recipe's.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from foundation.cli import NAMED, OneLineParser, above_zero, gives, log_to_stderr, positive, run_command, share
from foundation.errors import InputError
from foundation.secrets import hide
from r1_searcher.episode.question import QARow, read_rows
from r1_searcher.host import bf16_products
from r1_searcher.host.command import LENGTH_FLAG, Command, build_command, with_length_of
from r1_searcher.host.device import Device, Placement, cards, detect
from r1_searcher.host.flags import SECRET_FLAGS, TRAINER_MODULE
from r1_searcher.host.worker import end_without_a_look_for_garbage, shared_keys
from r1_searcher.launch import preset_run
from r1_searcher.launch.combinations import check_combinations
from r1_searcher.launch.extent import Extent
from r1_searcher.launch.processes import end_killed_attempt
from r1_searcher.recipe.options import (
    add_recipe_options,
    add_search_options,
    add_trust_option,
    changed_recipe,
    check_agent,
)
from r1_searcher.recipe.recipe import RECIPES, Recipe, find_recipe
from r1_searcher.recipe.schedule import Switch, read_steps
from r1_searcher.reward.rewards import find_reward
from r1_searcher.run.checkpoints import settle
from r1_searcher.run.metrics_log import metrics_so_far
from r1_searcher.run.run_config import JudgeConfig, RetrieverConfig, RunConfig, depends_on_progress
from r1_searcher.run.run_folder import RunFolder, identity_of
from r1_searcher.run.run_guard import GuardAction, RunGuard
from r1_searcher.run.scorers import is_reward_server
from r1_searcher.run.step_cost import step_cost
from r1_searcher.run.trained_with import TrainedWith
from r1_searcher.run.weights import update_size

logger = logging.getLogger(__name__)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="r1_searcher.train", description=__doc__, allow_abbrev=False, secret_flags=SECRET_FLAGS)
    preset_run.add_options(parser)
    add_recipe_options(parser, RECIPES, required=False)
    parser.add_argument("--run-dir", type=Path, help="folder of this run; an interrupted one is continued")
    parser.add_argument("--data", type=Path, help="JSONL of questions: id, question, answers")
    add_search_options(parser)
    _add_patience(parser)
    _add_reward_options(parser)
    parser.add_argument(
        "--max-steps", type=positive, help="end after N steps (rollouts); default: all passes over the data"
    )
    parser.add_argument(
        "--log-share",
        type=share,
        default=RunConfig.logged_share,
        metavar="F",
        help="share of each step's questions whose episodes are kept in RUN/trajectories (default: %(default)g)",
    )
    parser.add_argument("--no-document-mask", action="store_true", help="train retrieved tokens too (ablation)")
    parser.add_argument(
        "--guard",
        choices=[action.value for action in GuardAction],
        default=GuardAction.WARN.value,
        help="at a sign of a collapse: log it, end the run, or end it at its best checkpoint (status 4); default: warn",
    )
    parser.add_argument(
        "--device", choices=[device.value for device in Device], help="device (default: cuda where there is one)"
    )
    add_trust_option(parser)
    parser.add_argument("--dry-run", action="store_true", help="print OpenRLHF's command line and stop")
    parser.add_argument("--verbose", action="store_true", help="OpenRLHF's output on the console, not in train.log")
    return parser


def _add_patience(parser: argparse.ArgumentParser) -> None:
    """How long and how often the search service is asked."""
    parser.add_argument(
        "--retriever-timeout",
        type=above_zero,
        help=f"longest time of one request in s (default: the preset's, or {RetrieverConfig.read_timeout:g})",
    )
    parser.add_argument(
        "--retriever-attempts", type=positive, default=RetrieverConfig.attempts, help="tries per search"
    )
    parser.add_argument(
        "--retriever-deadline",
        type=above_zero,
        help="longest time of one search in s, all tries together "
        f"(default: the preset's, or {RetrieverConfig.deadline:g})",
    )
    parser.add_argument(
        "--outage-seconds",
        type=above_zero,
        default=RetrieverConfig.outage_seconds,
        help="longest outage of the search service in s that training waits out",
    )


def _add_reward_options(parser: argparse.ArgumentParser) -> None:
    """What an episode is worth, when that changes, and who says so."""
    parser.add_argument("--reward", default="", help="reward instead of the recipe's: a name, or part=weight,…")
    parser.add_argument("--then-reward", default="", help="reward of a second stage in the same run")
    parser.add_argument("--switch", default="", help="when the second stage begins: step:N, fraction:F or held:N")
    parser.add_argument("--judge-url", default="", help="OpenAI-compatible endpoint, for rewards with the part judge")
    parser.add_argument("--judge-model", default="", help="name of the judge's model")
    parser.add_argument(
        "--judge-key-variable",
        default="",
        metavar="NAME",
        help="environment variable of the judge's key (default: OPENAI_API_KEY, which goes to api.openai.com only)",
    )
    parser.add_argument("--reward-url", default="", help="reward_func file or reward server; default: in-process")


@dataclass(frozen=True)
class Plan:
    """A checked command line."""

    recipe: Recipe
    command: Command
    device: Device
    devices: int
    """Devices of that kind on this machine."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit status is one of `foundation.cli`."""
    log_to_stderr(NAMED)
    options, host_flags = _parser().parse_known_args(argv)
    return run_command("r1_searcher.train", lambda: _run(options, host_flags), resumable=True)


def _run(options: argparse.Namespace, host_flags: Sequence[str]) -> int | None:
    if options.list_presets:
        print(preset_run.table_of_presets())
        return None
    if options.max_length is not None:
        if gives(host_flags, LENGTH_FLAG):
            raise InputError(f"--max-length and {LENGTH_FLAG} mean the same; give one of them")
        host_flags = [*host_flags, LENGTH_FLAG, str(options.max_length)]  # wins over a preset's
    chosen = preset_run.PresetRun.chosen_by(options)
    if chosen is not None:
        host_flags = chosen.fill(options, host_flags)
    _check_required(options, chosen)
    if options.reward_url and not is_reward_server(options.reward_url):
        options.reward_url = str(Path(options.reward_url).resolve())
    plan = _plan(options, hide(host_flags, SECRET_FLAGS))  # a preset's file may hold one, too
    if options.dry_run:
        print(shlex.join([sys.executable, "-m", TRAINER_MODULE, *plan.command.argv]))
        return None
    model = str(plan.command.get("actor.model_name_or_path"))
    folder = RunFolder(options.run_dir.resolve())
    # A complete run is left as it is, also where it cannot be written to.
    with (
        contextlib.nullcontext() if folder.is_complete else folder.held(),
        chosen.services(options, model) if chosen else contextlib.nullcontext(),
    ):
        return train_in(folder, options, plan)


def _check_required(options: argparse.Namespace, chosen: preset_run.PresetRun | None) -> None:
    needed = ["recipe", "run_dir"]
    if not (chosen and options.dry_run):
        needed += ["data"] if chosen and chosen.preset.tiny else ["data", "search"]
    if missing := [f"--{name.replace('_', '-')}" for name in needed if getattr(options, name) is None]:
        raise InputError(f"the following arguments are required: {', '.join(missing)}; or a preset that has them")


def _plan(options: argparse.Namespace, host_flags: Sequence[str]) -> Plan:
    recipe = _recipe(options)
    check_agent(recipe)
    if recipe.switch is not None and options.reward_url:
        raise InputError("a run with two stages takes its rewards in-process; leave out --reward-url or --switch")
    _check_judge(options, asked=any(reward.asks_judge for reward in recipe.rewards))
    if recipe.protocol.reads_pages and not options.browse:
        raise InputError(f"the protocol {recipe.protocol.name} reads pages; give --browse, e.g. --browse pages:")
    here, devices = detect()
    device = here if options.device is None else Device(options.device)
    command = build_command(recipe, options.run_dir.resolve(), host_flags, device)
    try:
        counts_progress = depends_on_progress(recipe, options.search)
    except ValueError as error:
        raise InputError(f"--search: {error}") from error
    check_combinations(recipe, command, options.reward_url, counts_progress=counts_progress)
    return Plan(with_length_of(recipe, command), command, device, devices if device is here else 0)


def _recipe(options: argparse.Namespace) -> Recipe:
    """The named recipe with the user's changes."""
    recipe = changed_recipe(find_recipe(options.recipe), options)
    return replace(
        recipe,
        reward=find_reward(options.reward) if options.reward else recipe.reward,
        then_reward=find_reward(options.then_reward) if options.then_reward else recipe.then_reward,
        switch=Switch.parse(options.switch) if options.switch else recipe.switch,
        train_on_documents=options.no_document_mask,
    )


def _check_judge(options: argparse.Namespace, *, asked: bool) -> None:
    """A reward that asks a judge has one, and a judge is asked. Raises `InputError`."""
    if options.reward_url and (asked or options.judge_url):
        raise InputError(
            "a judge is asked in-process, never by a reward file or server; leave out --reward-url, or leave out "
            "--judge-url and choose a --reward without a judge"
        )
    if asked and not (options.judge_url and options.judge_model):
        raise InputError("the reward asks a judge; give --judge-url and --judge-model")
    _judge(options)


def _judge(options: argparse.Namespace) -> JudgeConfig | None:
    """The judge of the run, if it has one. Raises `InputError` where it cannot be asked like this."""
    if not options.judge_url:
        return None
    judge = JudgeConfig(options.judge_url, options.judge_model, key_variable=options.judge_key_variable)
    _ = judge.endpoint
    return judge


def train_in(folder: RunFolder, options: argparse.Namespace, plan: Plan) -> int:
    """Train in a folder that this process holds, unless it is complete; gives the status."""
    rows = read_rows(options.data)
    recipe = plan.recipe
    identity = identity_of(recipe.to_mapping(), rows, plan.command.argv, options.max_steps)
    folder.check_owner(identity)
    if folder.is_complete:
        logger.info("%s is complete; nothing to do", folder.path)
        return 0
    extent = Extent.of(plan.command, rows, options.max_steps)
    corpus = check_before_start(options, plan, extent.rows)
    extent.tell()
    folder.prepare(identity, extent.rows)
    return launch(options, plan, extent, folder, corpus)


def check_before_start(options: argparse.Namespace, plan: Plan, rows: Sequence[QARow]) -> str:
    """Check what can be checked; gives the corpus that the search service says it has."""
    from r1_searcher.host import model_folder
    from r1_searcher.launch import machine, preflight

    machine.settle_temporary_folder(ray=not os.environ.get("RAY_ADDRESS"))
    machine.check_shared_memory()
    model = str(plan.command.get("actor.model_name_or_path") or "")
    model_folder.check_model_path(model)
    if not options.trust_remote_code:
        for flag in ("actor", "critic", "reward"):  # OpenRLHF loads the reference from the actor's
            if other := plan.command.get(f"{flag}.model_name_or_path"):
                model_folder.check_brings_no_code(str(other))
    cluster = bool(os.environ.get("RAY_ADDRESS"))
    preflight.check_gpus(plan.command, plan.device, plan.devices, cluster=cluster)
    if plan.device is Device.CUDA and plan.devices:  # on a cluster this machine's cards stand for those of the others
        preflight.check_memory(plan.command, model, cards())
    preflight.check_model(plan.recipe, model, rows, trust_remote_code=options.trust_remote_code)
    if options.reward_url:
        preflight.check_reward_url(options.reward_url)
    corpus = preflight.check_retriever(options.search)
    if options.browse:
        preflight.check_retriever(options.browse)
    preflight.warn_of_another_corpus(RunFolder(options.run_dir.resolve()), corpus)
    if (judge := _judge(options)) is not None:
        preflight.check_judge(judge)
    preflight.check_disk(plan.command, model, options.run_dir)  # last: what it says is of a run that starts
    return corpus


def _run_config(options: argparse.Namespace, plan: Plan, extent: Extent, folder: RunFolder, corpus: str) -> RunConfig:
    """What every process of this attempt reads."""
    command = plan.command
    return RunConfig(
        run_dir=str(folder.path),
        recipe=plan.recipe,
        retriever=RetrieverConfig(
            source=options.search,
            browse=options.browse or "",
            read_timeout=options.retriever_timeout or RetrieverConfig.read_timeout,
            attempts=options.retriever_attempts,
            deadline=options.retriever_deadline or RetrieverConfig.deadline,
            outage_seconds=options.outage_seconds,
            corpus=corpus,
        ),
        reward_url=options.reward_url,
        first_step=folder.last_step,
        earlier_attempts=folder.attempts,
        questions_per_step=command.questions_per_step,
        questions_per_pass=len(extent.rows),
        question_filter=command.question_filter,
        samples_per_question=command.number("rollout.n_samples_per_prompt"),
        total_steps=extent.steps,
        optimizer_steps=extent.optimizer_steps,
        engine_slots=command.engine_slots,
        logged_share=options.log_share,
        judge=_judge(options),
        plugins=options.plugins,
    )


def launch(options: argparse.Namespace, plan: Plan, extent: Extent, folder: RunFolder, corpus: str) -> int:
    """Start or resume the training, and wait for its end; gives the status."""
    from r1_searcher.launch.supervisor import Supervisor

    command = plan.command
    end_killed_attempt(folder.session_file)
    settle(folder, critic=command.has_critic)
    _run_config(options, plan, extent, folder, corpus).write(folder.config_file)
    if folder.last_step:
        logger.info("resuming %s after step %d of %d", folder.path, folder.last_step, extent.steps)
    rate = float(str(command.get("actor.adam.lr"))) if command.get("actor.optim") == "adam" else 0.0
    step_size = update_size(str(command.get("actor.model_name_or_path")), rate)
    estimator = str(command.get("algo.advantage.estimator"))
    guard = RunGuard(folder, GuardAction(options.guard), plan.recipe.protocol, step_size, estimator)
    if plan.device is Device.CUDA and not os.environ.get("RAY_ADDRESS"):
        placement = Placement.of(command.gpus, plan.devices, os.environ.get("CUDA_VISIBLE_DEVICES"))
        logger.info("%s", placement)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(placement.taken)
    if plan.device is Device.CPU:
        os.environ[bf16_products.VARIABLE] = bf16_products.choose()  # once, here, where the user reads it
    supervisor = Supervisor(folder, command.argv, plan.device, command.gpus, extent.steps, options.verbose, guard)
    supervisor.kept_models = command.number("ckpt.max_num")
    end_without_a_look_for_garbage()
    with shared_keys(
        folder.keys_file, (options.search, options.browse or ""), filter(None, [options.judge_key_variable])
    ):
        status = supervisor.run()
    if status == 0:
        finish(plan.recipe, tuple(options.plugins), folder, extent.steps)
    return status


def finish(recipe: Recipe, plugins: tuple[str, ...], folder: RunFolder, total_steps: int) -> None:
    """Note beside the model what it was trained with, and in the folder that it is complete; show what it cost."""
    step = _trained_step(folder, total_steps)
    TrainedWith(recipe, plugins, folder.base_model, step).write(folder.model)
    folder.mark_complete()
    if not step:
        logger.warning("no step was trained, filtering left no whole rollout: the model is unchanged")
    cost = step_cost(metrics_so_far(folder.metrics_file), folder.attempts)
    if cost is not None:
        print(cost.table(), file=sys.stderr)
    logger.info("model: %s", folder.model)


def _trained_step(folder: RunFolder, total_steps: int) -> int:
    """The last step of a finished training; the host's log need not hold it (`--logger.logging_steps`).

    With `--rollout.vllm_generate_batch_size` above the batch the last generation may play more steps than are trained.
    """
    return min(max((played.step for played in read_steps(folder.progress_file)), default=0), total_steps)


if __name__ == "__main__":
    sys.exit(main())
