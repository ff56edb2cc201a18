"""Corpus preparation: each published format, bad lines listed, units that lose nothing, whole after kill -9."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hostile.any_files import corpora, lines_in
from support.processes.commands import status_of

from data_prep.corpus import units as corpus_units
from data_prep.corpus.__main__ import BAD_LINES_NAME, main, repeated_ids
from data_prep.corpus.units import cut_into_units, lines_of
from retriever import Passage
from retriever.index.corpus import iter_corpus, read_corpus
from retriever.index.formats import FORMATS, BadLine, Cutting, read_line
from retriever.index.store import PassageStore

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared" / "data" / "raw_samples"


def read(format_name: str, row: object, **cutting: object) -> list[Passage]:
    line = row if isinstance(row, str) else json.dumps(row)
    return read_line(line.encode(), FORMATS[format_name], Cutting(**cutting))


def build(*arguments: object) -> int:
    return status_of(main, *arguments)


def test_kilt_is_cut_into_passages_of_words():
    text = ["Alan\n", "one two three\n", "Section::::Life.\n", "BULLET::::- four five\n", "six seven"]
    found = read("kilt", {"wikipedia_id": "12", "wikipedia_title": "Alan", "text": text}, words=3)
    assert found == [
        Passage("12-0", "Alan", "one two three"),
        Passage("12-1", "Alan", "four five six"),
        Passage("12-2", "Alan", "seven"),
    ]
    assert read("kilt", {"wikipedia_title": "B", "text": ["x"]}) == [Passage("B-0", "B", "x")]


def test_the_other_formats():
    page = {"id": "7", "title": "T", "text": ["One.", " Two."], "url": "u"}
    assert read("hotpotqa_abstracts", page) == [Passage("7", "T", "One. Two.")]
    assert read("hotpotqa_abstracts", {**page, "text": [["A."], [" B."]]}) == [Passage("7", "T", "A. B.")]
    assert read("wiki18", {"id": "3", "contents": '"The "X" file"\nBody.\nMore.'}) == [
        Passage("3", 'The "X" file', "Body.\nMore.")
    ]
    assert read("tsv", "5\tAlan Turing   Alan was a man.\n") == [Passage("5", "Alan Turing", "Alan was a man.")]
    assert read("tsv", "5\tno title here") == [Passage("5", "", "no title here")]
    fields = {"id": "_id", "title": "head", "text": "body"}
    assert read("jsonl", {"_id": 4, "head": "h", "body": "b"}, fields=fields) == [Passage("4", "h", "b")]
    assert read("jsonl", {"_id": 4, "body": "b"}, fields=fields) == [Passage("4", "", "b")]


@pytest.mark.parametrize(
    ("format_name", "row", "said"),
    [
        ("jsonl", "{", "not JSON"),
        ("jsonl", [1], "expected a JSON object, found list"),
        ("jsonl", {"id": "1"}, "field text is missing"),
        ("jsonl", {"id": None, "text": "x"}, "field id must be a string, found None"),
        ("jsonl", {"id": "1", "text": "  "}, "no text"),
        ("jsonl", '{"id": "1", "text": "\\ud800"}', "not valid Unicode"),
        ("kilt", {"wikipedia_title": "A", "text": "x"}, "list of paragraphs"),
        ("kilt", {"wikipedia_title": "A", "text": ["A\n"]}, "no text"),
        ("wiki18", {"id": "1", "contents": "x"}, "no line end"),
        ("tsv", "x", "expected an id, a tab and a text"),
        ("hotpotqa_abstracts", {"id": "1", "title": "t", "text": None}, "must be sentences"),
        ("hotpotqa_abstracts", {"id": "1", "title": "t", "text": []}, "no text"),
    ],
)
def test_a_bad_line_says_why(format_name, row, said):
    with pytest.raises(BadLine, match=said):
        read(format_name, row)


def test_a_line_that_is_no_utf8():
    with pytest.raises(BadLine, match="not UTF-8"):
        read_line(b"\xff\t", FORMATS["tsv"], Cutting())


@given(
    files=st.lists(st.lists(st.text("ab", max_size=6), max_size=8), min_size=1, max_size=3),
    unit_bytes=st.integers(1, 30),
    end=st.booleans(),
)
def test_units_hold_every_line_once_and_in_order(tmp_path_factory, files, unit_bytes, end):
    folder = tmp_path_factory.mktemp("units")
    paths, expected = [], []
    for number, lines in enumerate(files):
        path = folder / str(number)
        path.write_bytes("\n".join(lines).encode() + (b"\n" if end else b""))
        paths.append(path)
        expected += path.read_bytes().splitlines(keepends=True)
    units = cut_into_units(paths, unit_bytes)
    assert [line for unit in units for piece in unit.pieces for line in lines_of(piece)] == expected
    assert sum(unit.bytes for unit in units) == sum(path.stat().st_size for path in paths)


def write_jsonl(path: Path, count: int, first: int = 0) -> Path:
    rows = [{"id": str(i), "title": f"t{i % 5}", "text": f"text of {i}"} for i in range(first, first + count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_many_units_and_processes_give_the_passages_in_order(tmp_path):
    source = write_jsonl(tmp_path / "c.jsonl", 500)
    for processes in (1, 2):
        out = tmp_path / str(processes)
        assert (
            build("--format", "jsonl", "--input", source, "--out", out, "--unit-bytes", 4000, "--processes", processes)
            == 0
        )
    one, two = (PassageStore.open(tmp_path / name) for name in "12")
    assert list(one) == list(two) == read_corpus(source) and len(one.shards) > 5 and one.sha256 == two.sha256
    assert not (tmp_path / "1" / ".corpus_work").exists()


def test_bad_lines_are_counted_and_listed_with_their_place(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(corpus_units, "MAX_LINE_BYTES", 1000)
    rows = [json.dumps({"id": str(i % 90), "text": "x"}) for i in range(100)]
    rows[7], rows[41], rows[60] = "{broken", "", json.dumps({"id": "long", "text": "y" * 5000})
    source = tmp_path / "c.jsonl"
    source.write_text("\n".join(rows) + "\n")
    out = tmp_path / "out"
    assert build("--format", "jsonl", "--input", source, "--out", out, "--unit-bytes", 300, "--processes", 1) == 0
    listed = [json.loads(line) for line in (out / BAD_LINES_NAME).read_text().splitlines()]
    assert [(row["line"], row["reason"].split(" (")[0]) for row in listed] == [
        (8, "not JSON"),
        (61, "longer than 1000 bytes"),
    ]
    assert listed[0]["begins"].startswith("{broken") and listed[0]["file"] == str(source)
    store = PassageStore.open(out)
    assert (len(store), store.facts["lines"], store.facts["bad_lines"]) == (97, 100, 2)
    assert store.facts["repeated_ids"] == 9 and "2 of 100 lines gave no passage" in caplog.text


def test_compressed_files_and_folders(tmp_path):
    folder = tmp_path / "in" / "AA"
    folder.mkdir(parents=True)
    plain = write_jsonl(folder / "wiki_00", 20).read_bytes()
    (folder / "wiki_01.bz2").write_bytes(bz2.compress(plain))
    (folder / "wiki_02.gz").write_bytes(gzip.compress(plain))
    command = ["--format", "jsonl", "--input", tmp_path / "in", "--out", tmp_path / "out", "--unit-bytes", 100]
    assert build(*command, "--processes", 1) == 0
    assert [passage.id for passage in PassageStore.open(tmp_path / "out")] == [str(i) for i in range(20)] * 3


def test_a_second_run_has_nothing_to_do_and_another_build_is_refused(tmp_path, capsys):
    source = write_jsonl(tmp_path / "c.jsonl", 20)
    command = ["--format", "jsonl", "--input", source, "--out", tmp_path / "out"]
    assert build(*command) == 0
    before = (tmp_path / "out" / "shard-00000.arrow").stat().st_mtime_ns
    assert build(*command) == 0 and (tmp_path / "out" / "shard-00000.arrow").stat().st_mtime_ns == before
    for change in (["--field", "text=title"], ["--unit-bytes", "50"]):
        assert build(*command, *change) == 2
        assert "holds another passage store" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "nope", "--input", "x"], "invalid choice"),
        (["--format", "tsv", "--input", "missing"], "missing: no such file"),
        (["--format", "tsv", "--input", "{empty}"], "nothing to read"),
        (["--format", "tsv", "--input", "{file}", "--field", "id=x"], "with --format jsonl"),
        (["--format", "jsonl", "--input", "{file}", "--field", "idx"], "--field idx"),
        (["--format", "kilt", "--input", "{file}", "--words", "0"], "at least 1"),
        (["--format", "kilt", "--input", "{file}"], "no passages came out"),
        (["--format", "jsonl", "--input", "{broken}"], "Compressed file ended"),
        (["--input", "{pointer}"], "git lfs pull"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, capsys, arguments, said):
    (tmp_path / "empty").touch()
    write_jsonl(tmp_path / "file", 3)
    (tmp_path / "broken.gz").write_bytes(gzip.compress(b"x" * 1000)[:-12])
    (tmp_path / "pointer").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1e08\nsize 886\n")
    places = {name: str(tmp_path / name) for name in ("empty", "file", "pointer")} | {
        "broken": str(tmp_path / "broken.gz")
    }
    assert build(*(argument.format(**places) for argument in arguments), "--out", tmp_path / "out") == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out" / "store.json").exists()


def test_a_compressed_file_that_is_damaged_behind_its_beginning_is_one_line(tmp_path, capsys):
    packed = bytearray(gzip.compress(write_jsonl(tmp_path / "c.jsonl", 20_000).read_bytes()))
    packed[-20_000] ^= 0xFF
    (tmp_path / "c.jsonl.gz").write_bytes(packed)
    assert build("--input", tmp_path / "c.jsonl.gz", "--out", tmp_path / "out", "--processes", 1) == 2
    assert "damaged" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.jsonl.gz", '{"id": "1", "title": "T", "text": "x"}\n'.encode("utf-16")),
        ("c.jsonl.gz", gzip.compress('{"id": "1", "title": "T", "text": "x"}\n'.encode("utf-16"), mtime=0)),
        ("c.jsonl.gz", b'{"id": "1", "title": "T", "text": "x"}\n'),
        ("c.jsonl", bz2.compress(b'\xef\xbb\xbf{"id": "1", "title": "T", "text": "x"}\n')),
        ("c.jsonl", b'{"id": "1", "title": "T", "text": "x"}\n\xef\xbb\xbf\r\n'),
    ],
    ids=["wide under a packed name", "wide and packed", "plain under a packed name", "packed", "joined"],
)
def test_what_a_corpus_is_packed_in_is_told_by_its_first_bytes(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert build("--input", tmp_path / name, "--out", tmp_path / "out", "--processes", 1) == 0
    store = PassageStore.open(tmp_path / "out")
    assert list(store) == [Passage("1", "T", "x")] and store.facts["bad_lines"] == 0


def test_repeated_ids_over_units(monkeypatch):
    monkeypatch.setattr("data_prep.corpus.__main__.IDS_AT_ONCE", 10)
    draw = np.random.default_rng(0)
    units = [np.sort(draw.integers(0, 2**64 - 1, 40, dtype=np.uint64)) for _ in range(3)]
    units[2][:5] = units[0][:5]
    assert repeated_ids([np.sort(unit) for unit in units]) == 5 and repeated_ids([]) == 0


@pytest.mark.slow
def test_killed_at_every_file_the_same_command_finishes_with_equal_bytes(tmp_path):
    source = write_jsonl(tmp_path / "c.jsonl", 60)
    script = [
        sys.executable,
        str(ROOT / "tests/support/crashes/kill_points.py"),
        "data_prep.corpus.__main__",
        str(tmp_path),
    ]
    command = [*script, "--format", "jsonl", "--input", str(source), "--out", "{out}"]
    command += ["--unit-bytes", "1500", "--processes", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 20


@pytest.mark.e2e
def test_finished_units_are_not_done_again_after_a_kill_of_all_processes(tmp_path):
    source = write_jsonl(tmp_path / "c.jsonl", 60_000)
    arguments = ["--format", "jsonl", "--input", str(source), "--unit-bytes", "100000", "--processes", "2"]
    command = [sys.executable, "-m", "data_prep.corpus", *arguments, "--out"]
    out = tmp_path / "killed"
    with subprocess.Popen([*command, str(out)], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        give_up_at = time.monotonic() + 60
        while len(list(out.glob(".corpus_work/unit-*.json"))) < 4 and time.monotonic() < give_up_at:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    finished = {path: path.stat().st_mtime_ns for path in out.glob(".corpus_work/unit-*.json")}
    kept = {path: path.stat().st_mtime_ns for path in (out / f"shard-{p.name[5:10]}.arrow" for p in finished)}
    assert len(finished) >= 4 and not (out / "store.json").exists()
    assert subprocess.run([*command, str(out)], cwd=ROOT, capture_output=True, timeout=100).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    store = PassageStore.open(out)
    assert list(store) == read_corpus(source)


@pytest.mark.parametrize(("folder", "pages"), [(ROOT / "tests/data/releases", 3), (SHARED, 8)])
def test_pages_as_released(tmp_path, folder, pages):
    if not folder.is_dir():
        pytest.skip(f"no real samples: {folder} is not here")
    kilt = folder / "kilt_knowledgesource.jsonl"
    assert build("--format", "kilt", "--input", kilt, "--out", tmp_path / "kilt") == 0
    store = PassageStore.open(tmp_path / "kilt")
    assert len({passage.title for passage in store}) == pages and store.facts["bad_lines"] == 0
    assert all(len(passage.text.split()) <= 100 and "::::" not in passage.text for passage in store)
    assert len(store) > pages, "a long page is cut"


PSGS = 'id\ttext\ttitle\n1\t"Alder ""Al"" Finch was a botanist."\t"Alder Finch"\n2\tno title\n'
ABSTRACTS = '\ufeff0\t"Title: Blue Lamp Text:  The ""Blue Lamp"" is a hotel."\r\n1\tTitle: Aldmere Text:  A town.\r\n'


@pytest.mark.parametrize("named", [["--format", "tsv"], ["--format", "dpr"], []])
def test_dprs_passages_whatever_they_are_called(tmp_path, caplog, named):
    """facebookresearch/DPR, psgs_w100.tsv: a reader of any table made a passage of the names and lost all titles."""
    caplog.set_level("INFO")
    (tmp_path / "psgs.tsv").write_text(PSGS)
    assert build("--input", tmp_path / "psgs.tsv", "--out", tmp_path / "s", "--processes", 1, *named) == 0
    store = PassageStore.open(tmp_path / "s")
    assert list(store) == [Passage("1", "Alder Finch", 'Alder "Al" Finch was a botanist.')]
    assert store.facts["header_lines"] == 1 and "read as dpr" in caplog.text
    assert "1 of 3 lines gave no passage, listed in" in caplog.text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_r1_searchers_abstracts_keep_their_titles(tmp_path, encoding):
    """wiki_corpus_index_bulid/samples/train_np_title_abs_sample_100.tsv: a mark, CRLF, CSV quoting."""
    (tmp_path / "abs.tsv").write_bytes(ABSTRACTS.removeprefix("\ufeff" * (encoding != "utf-8")).encode(encoding))
    assert build("--format", "tsv", "--input", tmp_path / "abs.tsv", "--out", tmp_path / "s", "--processes", 1) == 0
    assert list(PassageStore.open(tmp_path / "s")) == [
        Passage("0", "Blue Lamp", 'The "Blue Lamp" is a hotel.'),
        Passage("1", "Aldmere", "A town."),
    ]


@pytest.mark.parametrize(("flags", "warned"), [([], True), (["--no-corpus-warnings"], False)])
def test_a_corpus_without_titles_is_warned_of(tmp_path, caplog, flags, warned):
    (tmp_path / "c.tsv").write_text("1\tonly text\n2\tmore text\n")
    assert build("--input", tmp_path / "c.tsv", "--out", tmp_path / "s", "--processes", 1, *flags) == 0
    assert ("none of the first 2 passages has a title" in caplog.text) is warned


def test_a_format_that_is_not_the_files_is_refused_with_what_it_looks_like(tmp_path, capsys):
    (tmp_path / "c.jsonl").write_text('{"id": "1", "contents": "\\"T\\"\\nx"}\n')
    arguments = ["--input", tmp_path / "c.jsonl", "--out", tmp_path / "s", "--processes", 1]
    assert build("--format", "jsonl", *arguments) == 2
    assert "c.jsonl looks like wiki18" in capsys.readouterr().err
    (tmp_path / "c.jsonl").write_text("no corpus\n")
    assert build(*arguments) == 2 and "name it with --format" in capsys.readouterr().err


@given(content=corpora(), suffix=st.sampled_from([".jsonl", ".tsv", ".jsonl.gz", ""]))
def test_any_file_ends_in_passages_and_listed_lines_or_in_one_line(tmp_path_factory, content, suffix):
    folder = tmp_path_factory.getbasetemp() / "any_corpus_of_a_store"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    source, out = folder / f"c{suffix}", folder / "store"
    source.write_bytes(content)
    # A power cut is not what this is about, and waiting for the disk would be most of its time.
    with contextlib.redirect_stderr(io.StringIO()) as said, mock.patch("os.fsync"):
        status = build("--input", source, "--out", out, "--processes", 1)
    if status:
        last = said.getvalue().rpartition("passages: ")[2].splitlines()[-1]
        assert status == 2 and last.startswith("data_prep.corpus: ") and str(folder) in last
        return
    store, listed = PassageStore.open(out), (out / BAD_LINES_NAME).read_text().splitlines()
    counted = list(store) if store.facts["source"] != "kilt" else [p for p in store if p.id.endswith("-0")]
    lines = lines_in(content)
    assert lines is None or len(counted) + len(listed) + store.facts["header_lines"] == lines
    assert len(listed) == store.facts["bad_lines"] and all(json.loads(line)["reason"] for line in listed)
    if not listed:
        assert list(iter_corpus(source)) == list(store), "the server reads the same passages"
