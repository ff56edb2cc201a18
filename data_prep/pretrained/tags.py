"""A protocol's tags as special tokens of a model: each has one spelling, whatever stands beside it.

R1-Searcher's paper does so for the tags of queries and documents. A model that has learnt the tags spelt in pieces,
as the released checkpoints have, must keep them so: its weights know nothing of the new tokens.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.pretrained.folder import read_folder, recorded_folder, save
from data_prep.pretrained.sources import hashes_of
from foundation.cli import OneLineParser, log_to_stderr, run_command
from foundation.errors import InputError
from r1_searcher.recipe.plugins import add_plugin_option
from r1_searcher.recipe.protocols import PROTOCOLS, find_protocol

logger = logging.getLogger(__name__)


def add_tags(model: Any, tokenizer: Any, tags: Sequence[str]) -> list[str]:
    """Make each tag one special token, in place; gives those that were not one yet.

    A new row of the embeddings, and of a head of its own, is the mean of the rows of the pieces that spelt the tag.
    Rows that a model has to spare are used before it grows.
    """
    from tokenizers import AddedToken

    pieces = {tag: tokenizer.encode(tag, add_special_tokens=False) for tag in sorted(tags)}
    missing = [tag for tag, ids in pieces.items() if len(ids) > 1]
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=True) for tag in missing], special_tokens=True)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    head = model.get_output_embeddings()
    # A tied head is the same tensor twice: its rows are then set twice to the same mean.
    tables = [model.get_input_embeddings().weight, head.weight]
    if getattr(head, "bias", None) is not None:
        tables.append(head.bias)
    means = {tag: [table.data[pieces[tag]].float().mean(dim=0) for table in tables] for tag in missing}
    for tag, rows in means.items():
        for table, row in zip(tables, rows, strict=True):
            table.data[tokenizer.convert_tokens_to_ids(tag)] = row.to(table.dtype)
    return missing


def make_tagged_folder(source: Path, protocol: str, out: Path) -> None:
    """The model of a folder with a protocol's tags, as a new folder; one that is there already is left as it is.

    Raises:
        InputError: the folder holds no model, all tags are tokens already, or `out` is something else.
        FolderBusy: another process makes it.
    """
    if not source.is_dir():
        raise InputError(f"there is no folder {source}; python -m data_prep.pretrained makes one of any model")
    weights = {name: value for name, value in hashes_of(source).items() if name != "origin.json"}
    identity = {"source": source.resolve().name, "files": weights, "tags_of": protocol}
    with recorded_folder(out, identity) as draft:
        if draft is None:
            return
        tags = find_protocol(protocol).tags
        model, tokenizer = read_folder(source)
        before = len(tokenizer)
        added = add_tags(model, tokenizer, tags)
        if not added:
            raise InputError(f"{source}: every tag of {protocol} is one token already; take the model as it is")
        save(model, tokenizer, draft)
    logger.info("%s: %d to %d tokens: %s", out, before, len(tokenizer), " ".join(added))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2."""
    parser = OneLineParser(prog="data_prep.add_tags", description=__doc__)
    parser.add_argument("model", type=Path, help="folder of the model; it is not changed")
    parser.add_argument("--protocol", required=True, help=f"whose tags: {', '.join(PROTOCOLS)}, or a plugin's")
    parser.add_argument(
        "--out", type=Path, required=True, help="new folder; one that holds this model is left as it is"
    )
    add_plugin_option(parser)
    options: argparse.Namespace = parser.parse_args(argv)
    log_to_stderr()
    return run_command("data_prep.add_tags", lambda: make_tagged_folder(options.model, options.protocol, options.out))
