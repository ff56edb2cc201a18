"""A model's fingerprint: its weights, wherever its folder lies."""

from __future__ import annotations

import hashlib
from pathlib import Path

_SAMPLE_BYTES = 1 << 20


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
