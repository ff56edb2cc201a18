"""manifest.json beside a saved index: what it was built from and with, checked before it is used.

A saved index is a folder: the index's own files, its passages, and the manifest, which is written last, so that a
half-written folder is refused. Passages of a store are not copied: the manifest says where the store is (row i of
the index is the store's passage i). Passages in memory are written as `passages.jsonl` (row i is line i).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from foundation.files import draft, parse_json, sync_tree, write_json
from foundation.owned_folder import BuildFolder, differences, shown
from retriever.index.corpus import write_corpus
from retriever.index.store import STORE_NAME, PassageStore, content_hash, open_corpus
from retriever.passage import Passage

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"
PASSAGES_NAME = "passages.jsonl"
FORMAT = 2


class IndexMismatch(ValueError):
    """A saved index that does not fit what is asked of it; the message names both sides."""


def build_folder(folder: Path) -> BuildFolder:
    """A folder in which an index is built."""
    return BuildFolder(folder, folder / MANIFEST_NAME, "index")


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
    """Write the passages, unless they lie in a store, then the manifest: the last act of saving an index."""
    place: dict[str, object] = {}
    if isinstance(passages, PassageStore):
        store = passages.folder.resolve()
        # Either may move alone, or both together.
        place["store"] = [os.path.relpath(store, folder.resolve()), str(store)]
    else:
        with draft(folder / PASSAGES_NAME) as temporary:
            write_corpus(temporary, passages)
    manifest = {
        "format": FORMAT,
        "backend": backend,
        "count": len(passages),
        "corpus_sha256": content_hash(passages),
        **place,
        **facts,
        "libraries": versions(libraries),
    }
    sync_tree(folder)  # the libraries that wrote the rest do not wait for the disk
    write_json(folder / MANIFEST_NAME, manifest)


def finish_joining(folder: Path, backend: str, facts: Mapping[str, object]) -> None:
    """Write the manifest of an index that is made of saved indexes in folders below."""
    write_json(folder / MANIFEST_NAME, {"format": FORMAT, "backend": backend, **facts})


def read_manifest(folder: str | Path) -> dict[str, object]:
    """The manifest of a saved index.

    Raises:
        IndexMismatch: there is none, it is not JSON, or it is of another format version.
    """
    path = Path(folder) / MANIFEST_NAME
    try:
        manifest: dict[str, object] = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise IndexMismatch(
            f"{folder} is not a saved index: cannot read {MANIFEST_NAME} ({error.strerror}); a FAISS file of others is "
            "taken over with its corpus and encoder by python -m retriever.adopt"
        ) from error
    except ValueError as error:
        raise IndexMismatch(f"{path} is not JSON ({error}); build the index again") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise IndexMismatch(f"{path} has format {found!r}, this version reads {FORMAT}; build the index again")
    return manifest


def load_passages(
    folder: str | Path, manifest: Mapping[str, object], corpus: str | Path | None = None
) -> Sequence[Passage]:
    """The passages of a saved index, checked against its manifest's count and hash.

    Other library versions than at the build are only warned of.

    Args:
        corpus: where they are now, if not where the manifest says.

    Raises:
        IndexMismatch: the passages are not the ones that the index was built from.
        CorpusError: the passages are missing or damaged.
    """
    passages = open_corpus(corpus or _place_of(Path(folder), manifest))
    check_facts(folder, manifest, {"count": len(passages), "corpus_sha256": content_hash(passages)})
    _warn_of_other_versions(folder, manifest)
    return passages


def check_facts(folder: str | Path, manifest: Mapping[str, object], expected: Mapping[str, object]) -> None:
    """Compare what the manifest says with what is here.

    Raises:
        IndexMismatch: naming what differs, with both values.
    """
    wrong = differences({key: manifest.get(key) for key in expected}, expected)
    if wrong:
        raise IndexMismatch(f"saved index {folder} does not fit ({shown(wrong)}); build the index again")


def _place_of(folder: Path, manifest: Mapping[str, object]) -> Path:
    stores = manifest.get("store")
    if not isinstance(stores, list) or not stores:
        return folder / PASSAGES_NAME
    places = [Path(os.path.normpath(folder / str(place))) for place in stores]
    found = [place for place in places if (place / STORE_NAME).is_file()]
    if not found:
        raise IndexMismatch(
            f"{folder}: its passage store is not at {' or '.join(map(str, places))}; say where it is now"
        )
    return found[0]


def versions(libraries: Sequence[str]) -> dict[str, str]:
    """The installed ones of these libraries, with their versions."""
    return {name: found for name in libraries if (found := _version(name))}


def _warn_of_other_versions(folder: str | Path, manifest: Mapping[str, object]) -> None:
    libraries = manifest.get("libraries")
    for name, built_with in (libraries if isinstance(libraries, dict) else {}).items():
        if built_with != _version(name):
            logger.warning("index %s was built with %s %s, installed is %s", folder, name, built_with, _version(name))


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
