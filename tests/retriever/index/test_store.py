"""Passage stores: by position, mapped, hashed; what is damaged is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.files import draft
from retriever import Passage
from retriever.index.backends import Opening, load_index
from retriever.index.bm25 import Bm25Index
from retriever.index.corpus import CorpusError
from retriever.index.manifest import IndexMismatch
from retriever.index.store import ROWS_PER_BATCH, PassageStore, finish_store, open_corpus, write_shard

MANY = [Passage(f"i{n}", f"t{n}", f"text {n} é\n\u2028") for n in range(2 * ROWS_PER_BATCH + 10)]


def write(folder: Path, *shards: list[Passage]) -> PassageStore:
    folder.mkdir(exist_ok=True)
    return finish_store(folder, [write_shard(folder / f"shard-{n}.arrow", each) for n, each in enumerate(shards)])


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> PassageStore:
    return write(tmp_path_factory.mktemp("store"), MANY[:100], [], MANY[100:])


def test_every_position_in_every_way(store):
    assert len(store) == len(MANY) and list(store) == MANY
    assert [store[i] for i in (0, 99, 100, len(MANY) - 1, -1)] == [MANY[i] for i in (0, 99, 100, -1, -1)]
    with pytest.raises(IndexError, match=f"position {len(MANY)} of a store"):
        store[len(MANY)]


@given(st.slices(len(MANY)))
def test_slices_are_those_of_a_list(store, part):
    assert store[part] == MANY[part]


def test_the_hash_is_of_the_content(store, tmp_path):
    again = write(tmp_path / "again", MANY[:100], [], MANY[100:])
    other = write(tmp_path / "other", MANY[:100], [], [*MANY[100:-1], Passage("x", "", "")])
    assert again.sha256 == store.sha256 != other.sha256
    store.verify()


def test_the_datasets_library_opens_the_shards(store):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_file(str(store.folder / "shard-0.arrow"))
    assert (len(rows), rows[3]["text"]) == (100, MANY[3].text)


def test_many_shards_hold_no_descriptors(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    opened = write(tmp_path / "s", *[[passage] for passage in MANY[:50]])
    assert len(opened) == 50 and len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_a_changed_or_cut_shard_is_refused(tmp_path):
    opened = write(tmp_path / "s", MANY[:10])
    file = tmp_path / "s" / "shard-0.arrow"
    good = file.read_bytes()
    file.write_bytes(good.replace(b"text 3", b"text X"))
    with pytest.raises(CorpusError, match="has changed"):
        PassageStore.open(opened.folder).verify()
    file.write_bytes(good[:-8])
    with pytest.raises(CorpusError, match="expected the recorded"):
        PassageStore.open(opened.folder)
    file.unlink()
    with pytest.raises(CorpusError, match="cannot read shard"):
        PassageStore.open(opened.folder)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"format": 9, "shards": []}'])
def test_what_is_no_store_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "store.json").write_text(content)
    with pytest.raises(CorpusError):
        open_corpus(tmp_path)


def test_a_store_without_passages_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="no passages came out"):
        write(tmp_path / "s", [])


def test_an_index_over_a_store_holds_its_place_and_not_its_passages(store, tmp_path):
    Bm25Index.build(store).save(tmp_path / "index")
    assert not (tmp_path / "index" / "passages.jsonl").exists()
    opened = load_index(tmp_path / "index")
    assert isinstance(opened, Bm25Index) and isinstance(opened.passages, PassageStore)
    assert opened.search(["t77"], 1)[0][0].passage == MANY[77]


def test_a_moved_store_is_found_beside_the_index_or_where_one_says(tmp_path):
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / "s", MANY[:20])
    Bm25Index.build(PassageStore.open(tmp_path / "a" / "s")).save(tmp_path / "a" / "index")
    (tmp_path / "a").rename(tmp_path / "b")
    assert len(load_index(tmp_path / "b" / "index")) == 20
    (tmp_path / "b" / "s").rename(tmp_path / "elsewhere")
    with pytest.raises(IndexMismatch, match="say where it is"):
        load_index(tmp_path / "b" / "index")
    assert len(load_index(tmp_path / "b" / "index", Opening(corpus=tmp_path / "elsewhere"))) == 20
    write(tmp_path / "other", MANY[:19], [Passage("x", "", "")])
    with pytest.raises(IndexMismatch, match="corpus_sha256: there"):
        load_index(tmp_path / "b" / "index", Opening(corpus=tmp_path / "other"))


def test_a_draft_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), draft(tmp_path / "f") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_store_json_is_readable(store):
    facts = json.loads((store.folder / "store.json").read_text())
    assert facts["count"] == len(MANY) and [shard["count"] for shard in facts["shards"]] == [100, 0, len(MANY) - 100]


def test_damaged_offsets_are_found_before_anything_follows_them(tmp_path):
    """Two changed offsets ended the server with SIGBUS."""
    opened = write(tmp_path / "s", MANY[:50])
    file = tmp_path / "s" / opened.shards[0].file
    data = bytearray(file.read_bytes())
    offsets = b"".join(n.to_bytes(4, "little") for n in (0, 13, 26))  # of the first texts
    place = bytes(data).rindex(offsets)
    data[place + 4 : place + 8] = (0x7FFFFFF0).to_bytes(4, "little")
    file.write_bytes(data)
    with pytest.raises(CorpusError, match="is damaged"):
        PassageStore.open(tmp_path / "s").verify()


@pytest.mark.parametrize("name", ["../s/shard", "/etc/passwd", "a/b", ".."])
def test_a_shard_lies_in_its_stores_folder(tmp_path, name):
    write(tmp_path / "s", MANY[:5])
    facts = json.loads((tmp_path / "s" / "store.json").read_text())
    facts["shards"][0]["file"] = name
    (tmp_path / "s" / "store.json").write_text(json.dumps(facts))
    with pytest.raises(CorpusError, match="expected a file in its own folder"):
        PassageStore.open(tmp_path / "s")


def test_a_file_of_another_kind_is_no_shard(tmp_path):
    opened = write(tmp_path / "s", MANY[:5])
    file = tmp_path / "s" / opened.shards[0].file
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(CorpusError, match="cannot read shard"):
        PassageStore.open(tmp_path / "s")
