"""manifest.json beside a saved index: what it was built from and with, checked before it is used.

A saved index is a folder: `passages.jsonl` (row i of the index is line i), the index's own files, and the
manifest, which is written last, so that a half-written folder is refused.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from retriever.corpus import corpus_hash, read_corpus, write_corpus
from retriever.passage import Passage

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"
PASSAGES_NAME = "passages.jsonl"
FORMAT = 1


class IndexMismatch(ValueError):
    """A saved index that does not fit what is asked of it; the message names both sides."""


def start_saving(folder: str | Path) -> Path:
    """Create the folder and remove an old manifest, so that nobody loads the folder while it changes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    return folder


def finish_saving(
    folder: Path,
    backend: str,
    passages: Sequence[Passage],
    facts: Mapping[str, object],
    libraries: Sequence[str],
) -> None:
    """Write the passages, then the manifest: the last act of saving an index."""
    write_corpus(folder / PASSAGES_NAME, passages)
    manifest = {
        "format": FORMAT,
        "backend": backend,
        "count": len(passages),
        "corpus_sha256": corpus_hash(passages),
        **facts,
        "libraries": {name: _version(name) for name in libraries},
    }
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: str | Path) -> dict[str, object]:
    """The manifest of a saved index.

    Raises:
        IndexMismatch: there is none, it is not JSON, or it is of another format version.
    """
    path = Path(folder) / MANIFEST_NAME
    try:
        manifest: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise IndexMismatch(f"{folder} is not a saved index: cannot read {MANIFEST_NAME} ({error.strerror})") from error
    except ValueError as error:
        raise IndexMismatch(f"{path} is not JSON ({error}); build the index again") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise IndexMismatch(f"{path} has format {found!r}, this version reads {FORMAT}; build the index again")
    return manifest


def load_passages(folder: str | Path, manifest: Mapping[str, object]) -> list[Passage]:
    """The passages of a saved index, checked against its manifest's count and hash.

    Other library versions than at the build are only warned of.

    Raises:
        IndexMismatch: the passages are not the ones that the index was built from.
        CorpusError: the passages file is damaged.
    """
    passages = read_corpus(Path(folder) / PASSAGES_NAME)
    check_facts(folder, manifest, {"count": len(passages), "corpus_sha256": corpus_hash(passages)})
    _warn_of_other_versions(folder, manifest)
    return passages


def check_facts(folder: str | Path, manifest: Mapping[str, object], expected: Mapping[str, object]) -> None:
    """Compare what the manifest says with what is here.

    Raises:
        IndexMismatch: naming every differing key with both values.
    """
    wrong = [
        f"{key}: index has {manifest.get(key)!r}, here is {value!r}"
        for key, value in expected.items()
        if manifest.get(key) != value
    ]
    if wrong:
        raise IndexMismatch(f"saved index {folder} does not fit ({'; '.join(wrong)}); build the index again")


def _warn_of_other_versions(folder: str | Path, manifest: Mapping[str, object]) -> None:
    libraries = manifest.get("libraries")
    for name, built_with in (libraries if isinstance(libraries, dict) else {}).items():
        if built_with != _version(name):
            logger.warning("index %s was built with %s %s, here is %s", folder, name, built_with, _version(name))


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
