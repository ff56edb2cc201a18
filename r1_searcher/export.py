"""Export a checkpoint of a run as a Hugging Face model: `python -m r1_searcher.export RUN --step N --out DIR`.

The folder holds the weights in safetensors, the tokenizer with its chat template, the generation settings, and
`r1_searcher.json`: the recipe and limits that the model was trained with. vLLM and transformers load it; with the last
step's checkpoint its weights are those of the run's own `model/`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.cli import NAMED, OneLineParser, log_to_stderr, positive, run_command
from foundation.errors import InputError
from foundation.files import storage_error
from foundation.owned_folder import beside, whole_folder
from r1_searcher.host.model_folder import write_model
from r1_searcher.recipe.options import add_trust_option
from r1_searcher.run.checkpoints import actor_checkpoint, kept_steps
from r1_searcher.run.run_config import RunConfig
from r1_searcher.run.run_folder import RunFolder
from r1_searcher.run.trained_with import TrainedWith

logger = logging.getLogger(__name__)

DTYPES = {"bf16": "bfloat16", "fp32": "float32"}


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="r1_searcher.export", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("--step", type=positive, help="of the checkpoint; default: the newest whole one")
    parser.add_argument("--out", type=Path, help="folder of the model; default: RUN/export/global_stepN")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="bf16", help="of the weights; fp32: the optimizer's own copy (default: bf16)"
    )
    add_trust_option(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit status is one of `foundation.cli`."""
    log_to_stderr(NAMED)
    options = _parser().parse_args(argv)
    return run_command("r1_searcher.export", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    export(options.run, options.step, options.out, options.dtype, trust_remote_code=options.trust_remote_code)


def export(
    run: Path,
    step: int | None = None,
    out: Path | None = None,
    dtype: str = "bf16",
    *,
    trust_remote_code: bool = False,
) -> None:
    """Write the model of a checkpoint; the folder appears whole or not at all.

    Args:
        run: folder of the run.
        step: of the checkpoint; None: the newest whole one.
        out: folder of the model, which must not be there yet; None: in the run's folder.
        dtype: a key of `DTYPES`.
        trust_remote_code: whether code that the run's model brings may run.

    Raises:
        InputError: there is no run, or no such whole checkpoint; the base model is gone; the folder is there already.
        FolderBusy: another process writes it.
        RunAborted: the disk is full.
    """
    folder = RunFolder(run.expanduser().resolve())
    step = _chosen(kept_steps(folder), step, folder)
    base, config = folder.base_model, RunConfig.read(folder.config_file)
    out = (out or folder.exports / f"global_step{step}").expanduser().resolve()
    source = str(folder.model) if folder.is_complete else base  # the base may be gone by then
    with beside(out):
        if out.exists():
            raise InputError(f"{out} is there already; remove it, or give another --out")
        try:
            with whole_folder(out) as draft:
                checkpoint = actor_checkpoint(folder, step)
                write_model(checkpoint, source, draft, DTYPES[dtype], trust_remote_code=trust_remote_code)
                TrainedWith(config.recipe, config.plugins, base, step).write(draft)
        except OSError as error:
            raise storage_error(out, error) from error
    logger.info("model of step %d: %s", step, out)


def _chosen(whole: Sequence[int], step: int | None, folder: RunFolder) -> int:
    if not whole:
        raise InputError(f"{folder.checkpoints} holds no whole checkpoint; is {folder.path} the folder of a run?")
    if step is not None and step not in whole:
        raise InputError(f"there is no whole checkpoint of step {step} in {folder.path}; there are {list(whole)}")
    return step or whole[-1]


if __name__ == "__main__":
    sys.exit(main())
