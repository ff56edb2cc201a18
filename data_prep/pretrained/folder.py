"""A model's folder, made whole beside its place and then moved there, with a record of what it was made from."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from data_prep.pretrained.chat_check import check_chats
from data_prep.pretrained.gguf_file import read_gguf
from data_prep.pretrained.sources import ModelSource, hashes_of
from data_prep.pretrained.turn_ends import set_turn_ends
from foundation.cli import expected as expected_errors
from foundation.errors import InputError
from foundation.files import read_json, write_json
from foundation.owned_folder import beside, check_equal, whole_folder

logger = logging.getLogger(__name__)

ORIGIN = "origin.json"
"""What a folder was made from, and the SHA-256 of each of its files."""
HUB_SNAPSHOTS = "snapshots"
"""In the hub's cache: the folder of a repository's commits."""


def make_folder_of(source: ModelSource, out: Path, expected: str | None) -> None:
    """Make `out` from a source, unless it is there already.

    Args:
        source: where the model comes from.
        out: the new folder.
        expected: what the model's answer must hold (`chat_check`); None: it is not asked. An encoder never is.

    Raises:
        InputError: the source is no model that chats, or `out` is something else.
        Unavailable: the source cannot be reached.
        FolderBusy: another process makes it.
    """
    identity = source.identity()
    found: dict[str, str] = {}
    with recorded_folder(out, identity, found) as draft:
        if draft is None:
            return
        path = source.fetch(draft.parent)
        if path.parent.name == HUB_SNAPSHOTS:  # a branch moves on: this says what it was
            found["commit"] = path.name
        if source.package is not None and source.package.is_encoder:
            shutil.copytree(path, draft, dirs_exist_ok=True)
        else:
            _make_chat_model(path, draft, expected)
    logger.info("model: %s", out)


def _make_chat_model(path: Path, draft: Path, expected: str | None) -> None:
    """Write the model of a GGUF file or a folder so that all its files agree, and ask it a question."""
    model, tokenizer = read_gguf(path) if path.is_file() else read_folder(path)
    set_turn_ends(model, tokenizer)
    save(model, tokenizer, draft)
    del model
    if expected is not None:
        logger.info("it says: %s", check_chats(draft, expected))


def is_made(out: Path, identity: Mapping[str, Any]) -> bool:
    """Whether a folder holds what these facts make, every file as it was written.

    Raises:
        InputError: it holds something else.
    """
    if not out.exists():
        return False
    if not (out / ORIGIN).is_file():
        raise InputError(f"{out} exists and was not made here (it has no {ORIGIN}); choose another --out")
    origin = read_json(out / ORIGIN)
    written = origin.pop("written", {})
    origin.pop("commit", None)
    check_equal(origin, identity, f"{out} holds another model", "choose another --out")
    found = {name: value for name, value in hashes_of(out).items() if name in written}
    check_equal(found, written, f"{out} was changed after it was made", "remove it, or choose another --out")
    return True


@contextlib.contextmanager
def recorded_folder(
    out: Path, identity: Mapping[str, Any], found: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Path | None]:
    """A folder to write to, which becomes `out` with a record of what it was made from; None where it is there already.

    Args:
        out: the new folder.
        identity: what makes it this folder, known before it is made.
        found: what only its making shows; recorded beside it.

    Raises:
        InputError: `out` is something else.
        FolderBusy: another process makes it.
    """
    if is_made(out, identity):  # also where it cannot be written to
        logger.info("%s holds this model already", out)
        yield None
        return
    with expected_errors(OSError), beside(out):
        if is_made(out, identity):
            yield None
            return
        with whole_folder(out) as draft:
            yield draft
            write_json(draft / ORIGIN, {**identity, **found, "written": hashes_of(draft)})


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write weights, configurations and tokenizer as `from_pretrained` reads them."""
    # The path that it was read from; without it the bytes are the same wherever they are made.
    model.config._name_or_path = ""
    model.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)  # the library makes them private
    tokenizer.save_pretrained(folder)


def read_folder(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a folder in Hugging Face's format."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} holds no config.json; expected a Hugging Face model folder")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16), tokenizer
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"cannot read a model from {folder}: {str(error).splitlines()[0]}") from error
