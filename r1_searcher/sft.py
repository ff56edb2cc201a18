"""Supervised fine-tuning with OpenRLHF: `python -m r1_searcher.sft --model M --data ROWS.jsonl --out DIR …`.

Rows hold either a conversation (`messages`: all but its last message is the prompt) or a text to continue and its
continuation (`input`, `output`). Only the last message, or the output, is trained. Options of ours have no dot
in their name; everything else is passed to `openrlhf.cli.train_sft`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.cli import DONE, FAILED, OneLineParser, run_command
from foundation.errors import InputError
from r1_searcher.host.device import Device, detect, worker_environment
from r1_searcher.host.flags import SFT_MODULE, merge_flags, parse_flags
from r1_searcher.host.processes import Session

logger = logging.getLogger(__name__)

COMPLETE = "complete"
"""File in the output folder that says that the training has ended."""
CPU_FLAGS = ("--ds.attn_implementation", "sdpa")
SHAPES: dict[frozenset[str], tuple[str, ...]] = {
    frozenset({"messages"}): ("--data.input_key", "messages", "--data.apply_chat_template"),
    # The template is empty, because the input is the whole context as the model will see it.
    frozenset({"input", "output"}): (
        *("--data.input_key", "input", "--data.output_key", "output"),
        *("--data.input_template", ""),
    ),
}
"""Keys of a row, and how OpenRLHF is told to read it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit status is one of `foundation.cli`."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    options, host_flags = _parser().parse_known_args(argv)
    return run_command("r1_searcher.sft", lambda: _run(options, host_flags))


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="r1_searcher.sft", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--model", required=True, help="model to start from: a folder or a hub name")
    add("--data", required=True, type=Path, help="JSONL of rows")
    add("--out", required=True, type=Path, help="folder for the model; a finished one is left as it is")
    add("--device", choices=[device.value for device in Device], help="device (default: cuda where there is one)")
    add("--dry-run", action="store_true", help="print OpenRLHF's command line and stop")
    return parser


def _run(options: argparse.Namespace, host_flags: Sequence[str]) -> int:
    here, devices = detect()
    device = here if options.device is None else Device(options.device)
    command = _command(options, host_flags, device, devices if device is Device.CUDA else 1)
    if options.dry_run:
        print(shlex.join(command))
        return DONE
    if (options.out / COMPLETE).is_file():
        logger.info("%s is complete; nothing to do", options.out)
        return DONE
    return _train(command, options.out, device)


def _command(options: argparse.Namespace, host_flags: Sequence[str], device: Device, devices: int) -> list[str]:
    """OpenRLHF's command, one process per device; the user's flags win."""
    ours = (
        *("--model.model_name_or_path", options.model, "--data.dataset", str(options.data.resolve())),
        *("--ckpt.output_dir", str(options.out.resolve()), "--ckpt.path", str(options.out.resolve() / "checkpoints")),
        *_shape(options.data),
    )
    flags = merge_flags(ours, CPU_FLAGS if device is Device.CPU else (), host_flags)
    parsed = vars(parse_flags(flags, SFT_MODULE))
    rows, batch = _count_rows(options.data), parsed["train.batch_size"]
    if rows * parsed["train.max_epochs"] < batch:
        raise InputError(f"{options.data}: {rows} rows do not fill one batch of {batch} (--train.batch_size)")
    if batch % (parsed["train.micro_batch_size"] * devices):
        raise InputError(
            f"--train.batch_size {batch} must be a multiple of --train.micro_batch_size "
            f"{parsed['train.micro_batch_size']} times {devices} device(s)"
        )
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(devices)]
    return [sys.executable, *launch, "-m", "r1_searcher.host.sft_driver", *flags]


def _count_rows(data: Path) -> int:
    with data.open("rb") as lines:
        return sum(bool(line.strip()) for line in lines)


def _shape(data: Path) -> tuple[str, ...]:
    """The flags that fit the first row."""
    try:
        with data.open(encoding="utf-8") as lines:
            first = json.loads(next((line for line in lines if line.strip()), "null"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read rows from {data}: {error}") from error
    keys = frozenset(first) if isinstance(first, dict) else frozenset()
    for wanted, flags in SHAPES.items():
        if wanted <= keys:
            return flags
    raise InputError(f"{data}: the first row has the keys {sorted(keys)}; expected 'messages', or 'input' and 'output'")


def _train(command: Sequence[str], out: Path, device: Device) -> int:
    """Train; no process of it outlives this call."""
    out.mkdir(parents=True, exist_ok=True)
    log = out / "train.log"
    environment = os.environ | worker_environment(device)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        session = Session.led_by(process.pid)
        try:
            status = process.wait()
        finally:
            session.end()
            process.wait()
    if status == 0:
        (out / COMPLETE).touch()
        logger.info("model: %s", out)
        return DONE
    logger.error("OpenRLHF ended with status %d; the reason stands in %s", status, log)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
