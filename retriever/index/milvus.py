"""Dense retrieval in Milvus: beyond one machine's memory, or shared by many servers.

The same code talks to a cluster (`http://host:19530`, token in the environment variable MILVUS_TOKEN) and to Milvus
Lite, which lives in a local file. Passages lie in the collection beside their vectors, so a server needs no corpus. A
second collection, named `<collection>_manifest`, holds what the first was built from and with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from foundation.files import parse_json, write_json
from foundation.http import describe, display_url, printable
from foundation.owned_folder import held
from foundation.secrets import check_may_carry_key, with_credentials
from retriever.errors import RetrieverUnavailable
from retriever.index import manifest
from retriever.index.encoder import Encoder
from retriever.index.store import content_hash
from retriever.passage import Hit, Hits, Passage

BACKEND = "milvus"
_LIBRARIES = ("pymilvus", "milvus-lite")
_TEXT_BYTES = 65_535
"""The longest string that Milvus takes."""
BATCH = 512
"""Passages of one insertion."""
TIMEOUT_S = 30.0
"""Of one call of the server."""


class MilvusIndex:
    """A collection's passages by inner product of their vectors with the query's; equal scores in corpus order."""

    def __init__(self, client: Any, collection: str, encoder: Encoder, count: int) -> None:
        """Use `load`."""
        self._client = client
        self._collection = collection
        self._encoder = encoder
        self._count = count

    @classmethod
    def load(cls, folder: str | Path, encoder: Encoder, uri: str | None = None) -> MilvusIndex:
        """Connect to the collection that the folder's manifest names.

        Args:
            folder: of the manifest.
            encoder: of the queries.
            uri: the server. A manifest may be a stranger's, so the one that it names is not sent the token of
                MILVUS_TOKEN before the user has named it, too; only a local file is taken from there.

        Raises:
            IndexMismatch: the folder, the collection and the encoder do not belong together; both sides named.
            RetrieverUnavailable: Milvus cannot be reached.
            ImportError: pymilvus is missing, or milvus-lite for a local file.
        """
        saved = manifest.read_manifest(folder)
        manifest.check_facts(folder, saved, {"backend": BACKEND, **encoder.facts})
        collection = str(saved["collection"])
        place = uri or str(saved["uri"])
        if uri is None and "://" in place:
            raise manifest.IndexMismatch(
                f"{folder} says that it is in Milvus at {display_url(place)}; if that is yours, name it: --milvus-uri"
            )
        client = connect(place)
        own = _facts_in_milvus(client, collection)
        if own is None:
            raise manifest.IndexMismatch(f"{folder}: Milvus at {display_url(place)} has no collection {collection!r}")
        compared = {key: own.get(key) for key in ("count", "corpus_sha256", *encoder.facts)}
        manifest.check_facts(folder, saved, compared)
        _asked(lambda: client.load_collection(collection, timeout=TIMEOUT_S))
        manifest.check_facts(folder, saved, {"count": _count(client, collection)})
        return cls(client, collection, encoder, int(str(saved["count"])))

    @property
    def name(self) -> str:
        """`milvus:` and the encoder's name."""
        return f"{BACKEND}:{self._encoder.facts['encoder']}"

    def __len__(self) -> int:
        return self._count

    def search(self, queries: Sequence[str], top_k: int) -> list[Hits]:
        """Result i answers query i: at most `top_k` hits, best first. One batch for the encoder, one for Milvus.

        Raises:
            RetrieverUnavailable: Milvus gave no answer.
        """
        if not queries:
            return []
        vectors = self._encoder.encode_queries(queries)
        found = _asked(
            lambda: self._client.search(
                self._collection,
                data=list(vectors),
                limit=min(top_k, len(self)),
                output_fields=["id", "title", "text"],
                search_params={"metric_type": "IP"},
                timeout=TIMEOUT_S,
            )
        )
        return [_hits(rows) if vector.any() else () for vector, rows in zip(vectors, found, strict=True)]


def build_milvus(folder: Path, passages: Sequence[Passage], encoder: Encoder, uri: str, collection: str) -> None:
    """Fill a collection and write the folder that opens it; a killed build continues after the last passage there.

    The collection may be another one than the folder names: with the same passages and encoder it is the same index.

    Raises:
        InputError: the folder holds, or was started for, something else.
        IndexMismatch: the collection holds another corpus, or vectors of another encoder.
        ValueError: a passage too long for Milvus.
        RetrieverUnavailable: Milvus cannot be reached.
    """
    facts = {"count": len(passages), "corpus_sha256": content_hash(passages), **encoder.facts}
    uri = uri if "://" in uri else str(Path(uri).resolve())
    with held(folder):
        manifest.build_folder(folder).check({"backend": BACKEND, **facts})
        client = connect(uri)
        own = _facts_in_milvus(client, collection)
        if own is None:
            _create(client, collection, encoder.dim, facts)
        else:
            manifest.check_facts(f"{printable(uri)} {collection}", own, facts)
        # Rows are written in order, so what is there is a beginning; the last batch may be there in part.
        start = max(_count(client, collection) // BATCH - 1, 0) * BATCH
        with tqdm(total=len(passages), initial=start, desc="milvus", unit=" passages", unit_scale=True) as bar:
            for first in range(start, len(passages), BATCH):
                batch = passages[first : first + BATCH]
                rows = _rows(first, batch, encoder)
                _asked(lambda rows=rows: client.upsert(collection, rows, timeout=TIMEOUT_S))
                bar.update(len(batch))
        client.close()
        place = {"uri": uri, "collection": collection}
        libraries = manifest.versions(_LIBRARIES)
        saved = {"format": manifest.FORMAT, "backend": BACKEND, **facts, **place, "libraries": libraries}
        write_json(folder / manifest.MANIFEST_NAME, saved)


def connect(uri: str) -> Any:
    """A pymilvus client for a URL, or for a Milvus Lite file.

    Raises:
        ValueError: MILVUS_TOKEN would go in clear text to another machine.
        ImportError: pymilvus is missing, or milvus-lite for a file; with the pip line.
        RetrieverUnavailable: nothing answers.
    """
    try:
        from pymilvus import MilvusClient
        from pymilvus.exceptions import ConnectionConfigException
    except ImportError as error:
        raise ImportError("the milvus backend needs the pymilvus library: pip install pymilvus") from error
    token = os.environ.get("MILVUS_TOKEN", "") if "://" in uri else ""
    if token:
        check_may_carry_key(uri, "MILVUS_TOKEN")
    whole = with_credentials(uri)
    try:
        return _asked(lambda: MilvusClient(whole, token=token, timeout=TIMEOUT_S))
    except (ConnectionConfigException, ImportError) as error:
        raise ImportError(
            f"Milvus in a local file ({printable(uri)}) needs Milvus Lite: pip install milvus-lite ({describe(error)})"
        ) from error


def _create(client: Any, collection: str, dim: int, facts: Mapping[str, object]) -> None:
    """Both collections; the one with the facts first, so that no vectors are ever there without."""
    about = _about(collection)
    if not _asked(lambda: client.has_collection(about)):
        _new_collection(client, about, 2, {"facts": _TEXT_BYTES})
        _asked(lambda: client.upsert(about, [{"position": 0, "vector": [0.0, 1.0], "facts": json.dumps(dict(facts))}]))
    if not _asked(lambda: client.has_collection(collection)):
        _new_collection(client, collection, dim, {"id": _TEXT_BYTES, "title": _TEXT_BYTES, "text": _TEXT_BYTES})


def _new_collection(client: Any, name: str, dim: int, strings: Mapping[str, int]) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("position", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    for field, length in strings.items():
        schema.add_field(field, DataType.VARCHAR, max_length=length)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="AUTOINDEX", metric_type="IP")
    _asked(lambda: client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong"))


def _facts_in_milvus(client: Any, collection: str) -> dict[str, object] | None:
    """The corpus and settings that the collection was built from; None where either collection is missing or empty."""
    about = _about(collection)
    if not all(_asked(lambda name=name: client.has_collection(name)) for name in (about, collection)):
        return None
    _asked(lambda: client.load_collection(about, timeout=TIMEOUT_S))
    rows = _asked(lambda: client.query(about, filter="position == 0", output_fields=["facts"], timeout=TIMEOUT_S))
    return dict(parse_json(rows[0]["facts"])) if rows else None


def _about(collection: str) -> str:
    return f"{collection}_manifest"


def _count(client: Any, collection: str) -> int:
    rows = _asked(lambda: client.query(collection, filter="", output_fields=["count(*)"], timeout=TIMEOUT_S))
    return int(rows[0]["count(*)"])


def _rows(first: int, batch: Sequence[Passage], encoder: Encoder) -> list[dict[str, object]]:
    for passage in batch:
        longest = max(len(value.encode()) for value in (passage.id, passage.title, passage.text))
        if longest > _TEXT_BYTES:
            raise ValueError(f"passage {passage.id!r:.40} has {longest} bytes in a field; Milvus takes {_TEXT_BYTES}")
    vectors = encoder.encode_passages([passage.titled_text for passage in batch])
    return [
        {"position": first + n, "vector": vector, "id": passage.id, "title": passage.title, "text": passage.text}
        for n, (passage, vector) in enumerate(zip(batch, vectors, strict=True))
    ]


def _hits(rows: Any) -> Hits:
    ordered = sorted(rows, key=lambda row: (-row["distance"], row["position"]))
    return tuple(
        Hit(Passage(row["entity"]["id"], row["entity"]["title"], row["entity"]["text"]), float(row["distance"]))
        for row in ordered
    )


def _asked(question: Any) -> Any:
    """Milvus's answer, its own failures as ours."""
    from pymilvus.exceptions import ConnectionConfigException, MilvusException

    try:
        return question()
    except ConnectionConfigException:
        raise
    except MilvusException as error:
        raise RetrieverUnavailable(f"Milvus failed: {printable(str(error))}") from None
