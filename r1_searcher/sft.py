"""Supervised fine-tuning with OpenRLHF: `python -m r1_searcher.sft --model M --data ROWS.jsonl --out DIR …`.

Rows hold a conversation (`messages`: all but its last message is the prompt), a text to continue and its continuation
(`input`, `output`), or an episode (`ids`, `targets`, `text`; from `data_prep.good_trajectories`). The last message, the
output, or the ids in the targets are trained. Options of ours have no dot in their name; everything else is passed to
`openrlhf.cli.train_sft`. With `--ckpt.save_steps N` the same command continues a killed fine-tuning from its last
checkpoint.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foundation.cli import DONE, FAILED, NAMED, OneLineParser, log_to_stderr, run_command, split_flags
from foundation.errors import InputError
from foundation.files import file_sha256, sync_tree, write_whole
from foundation.owned_folder import OwnedFolder
from foundation.process import starter_environment
from r1_searcher.host.command import check_data_path, refuse_flags_of_ours
from r1_searcher.host.device import Device, detect, threads_for, worker_environment
from r1_searcher.host.flags import SECRET_FLAGS, SFT_MODULE, merge_flags, parse_flags
from r1_searcher.host.model_folder import check_brings_no_code
from r1_searcher.inspection.saving import refuse_unsavable
from r1_searcher.launch.processes import ProcessSession
from r1_searcher.launch.services import left_by_sigterm
from r1_searcher.launch.sft_rows import SFTFile, read_rows
from r1_searcher.recipe.options import add_trust_option
from r1_searcher.run.checkpoints import ModelCheckpoints, settle_models

logger = logging.getLogger(__name__)

COMPLETE = "complete"
"""File in the output folder that says that the training has ended."""
IDENTITY_FILE = "fine_tuning.json"
"""File in the output folder that says what is trained on what, and how: another fine-tuning is refused."""
CHECKPOINTS = "checkpoints"
OURS = {
    "--model.model_name_or_path": "--model",
    "--data.dataset": "--data",
    "--ckpt.output_dir": "--out",
    "--ckpt.path": "--out",
}
"""OpenRLHF flags that an option of ours stands for; given as they are, a killed fine-tuning would not be continued."""
CPU_FLAGS = ("--ds.attn_implementation", "sdpa")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit status is one of `foundation.cli`."""
    log_to_stderr(NAMED)
    options, host_flags = _parser().parse_known_args(argv)
    return run_command("r1_searcher.sft", lambda: _run(options, host_flags))


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="r1_searcher.sft", description=__doc__, allow_abbrev=False, secret_flags=SECRET_FLAGS)
    add = parser.add_argument
    add("--model", required=True, help="model to start from: a folder or a hub name")
    add("--data", required=True, type=Path, help="JSONL of rows")
    add("--out", required=True, type=Path, help="folder for the model; a finished one is left as it is")
    add_trust_option(parser)
    add("--device", choices=[device.value for device in Device], help="device (default: cuda where there is one)")
    add("--dry-run", action="store_true", help="print OpenRLHF's command line and stop")
    return parser


def _run(options: argparse.Namespace, host_flags: Sequence[str]) -> int:
    here, devices = detect()
    device = here if options.device is None else Device(options.device)
    command = host_command(options, host_flags, device, devices if device is Device.CUDA else 1)
    if options.dry_run:
        print(shlex.join(command))
        return DONE
    folder = OwnedFolder(options.out, options.out / IDENTITY_FILE, "fine-tuning")
    identity = identity_of(options, host_flags)
    complete = (options.out / COMPLETE).is_file()
    if folder.settings_file.is_file() or not complete:  # a finished one of an earlier version has no identity
        folder.check_owner(identity)
    if complete:
        logger.info("%s is complete; nothing to do", options.out)
        return DONE
    with folder.held():
        if not options.trust_remote_code:
            check_brings_no_code(options.model)
        refuse_unsavable(options.model)
        folder.claim(identity)
        checkpoints = ModelCheckpoints(options.out / CHECKPOINTS)
        if checkpoints.path.is_dir() and (step := settle_models([checkpoints])):
            logger.info("continues after step %d", step)
        return run_training(command, options.out, device, threads_for(options.model))


def identity_of(options: argparse.Namespace, host_flags: Sequence[str]) -> dict[str, Any]:
    """What makes a fine-tuning this one: its model, its rows and the user's flags for OpenRLHF."""
    flags = {flag: " ".join(values) for flag, values in split_flags(host_flags)}
    return {"model": options.model, "rows_sha256": file_sha256(options.data), "flags": flags}


def host_command(options: argparse.Namespace, host_flags: Sequence[str], device: Device, devices: int) -> list[str]:
    """OpenRLHF's command, one process per device; the user's flags win."""
    refuse_flags_of_ours(host_flags, OURS)
    check_data_path("--data", options.data.resolve())
    rows = read_rows(options.data, options.model, trust_remote_code=options.trust_remote_code)
    rows.check_flags(host_flags)
    ours = (
        *("--model.model_name_or_path", options.model, "--data.dataset", str(options.data.resolve())),
        *("--ckpt.output_dir", str(options.out.resolve()), "--ckpt.path", str(options.out.resolve() / CHECKPOINTS)),
        "--ckpt.load_enable",
        *rows.flags,
    )
    flags = merge_flags(ours, CPU_FLAGS if device is Device.CPU else (), host_flags)
    _check_batches(options.data, rows, vars(parse_flags(flags, SFT_MODULE)), devices)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(devices)]
    return [sys.executable, *launch, "-m", "r1_searcher.host.sft_driver", *flags]


def _check_batches(data: Path, rows: SFTFile, parsed: Mapping[str, Any], devices: int) -> None:
    """The devices' micro-batches must divide a batch, and the rows must fill one."""
    batch, micro, longest = parsed["train.batch_size"], parsed["train.micro_batch_size"], parsed["data.max_len"]
    if batch % (micro * devices):
        raise InputError(
            f"--train.batch_size {batch} must be a multiple of --train.micro_batch_size {micro} "
            f"times {devices} device(s)"
        )
    fitting = rows.fitting(longest)
    left_out = rows.count - fitting
    # OpenRLHF leaves out what does not fill a micro-batch of every device at the end of each epoch.
    if fitting // (micro * devices) * micro * devices * parsed["train.max_epochs"] < batch:
        shorter = f" of at most {longest} ids (--data.max_len)" if left_out else ""
        raise InputError(
            f"{data}: {fitting} rows{shorter} do not fill one batch of {batch} (--train.batch_size) "
            f"in micro-batches of {micro} on {devices} device(s)"
        )
    if left_out:
        logger.warning("%s: %d of %d episodes are left out: over %d ids (--data.max_len)",
                       data, left_out, rows.count, longest)  # fmt: skip


def run_training(command: Sequence[str], out: Path, device: Device, threads: int = 1) -> int:
    """Train with so many threads on CPUs; no process of it outlives this call, nor this process if that is killed."""
    out.mkdir(parents=True, exist_ok=True)
    log = out / "train.log"
    environment = os.environ | worker_environment(device, threads) | starter_environment()
    with left_by_sigterm(), log.open("ab") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        session = ProcessSession.led_by(process.pid)
        try:
            status = process.wait()
        finally:
            session.end()
            process.wait()
    if status == 0:
        sync_tree(out)  # what says that all is there must not be there before it
        write_whole(out / COMPLETE, "")
        logger.info("model: %s", out)
        return DONE
    logger.error("OpenRLHF ended with status %d; the reason is in %s", status, log)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
