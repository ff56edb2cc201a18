"""A checkout that can only be read: an administrator's, a colleague's, a container's layer.

Seen on a real read-only mount where the system lets us make one; else, for a user whom permissions bind, on a copy
without write permission.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("foundation", "retriever", "r1_searcher", "eval", "data_prep", "benchmarks", "train_scripts", "tests")
MOUNT = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
NAMESPACES = (
    ["unshare", "--mount", "--propagation", "private"],
    ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"],
)
SEVERAL = """
import contextlib, io, json, sys
from support.processes.commands import main_of, status_of
for command, *words in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()) as shown:
        status = status_of(main_of(command), *words)
    print("ENDED", json.dumps([status, said.getvalue(), shown.getvalue()]))
"""
"""Commands in one process, since importing their libraries takes most of the time."""


@dataclass(frozen=True)
class Checkout:
    """A checkout, and what a command is put behind so that it can only read it."""

    folder: Path
    behind: Sequence[str]

    def ended(self, commands: Sequence[Sequence[object]], cwd: Path) -> list[tuple[int, str, str]]:
        """Status, stderr and stdout of each, in this folder."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("R1_SEARCHER_")}
        environment["PYTHONPATH"] = os.pathsep.join([str(self.folder), str(self.folder / "tests")])
        done = subprocess.run(
            [*self.behind, sys.executable, "-c", SEVERAL],
            input=json.dumps([[str(word) for word in words] for words in commands]),
            env=environment, cwd=cwd, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        lines = [line.removeprefix("ENDED ") for line in done.stdout.splitlines() if line.startswith("ENDED ")]
        return [tuple(json.loads(line)) for line in lines]


def is_read_only(behind: Sequence[str], folder: Path) -> bool:
    """Whether a command behind this reads the folder and cannot write to it."""
    trying = f'test -r "{folder}/README.md" && ! touch "{folder}/written" 2> /dev/null'
    return subprocess.run([*behind, "sh", "-c", trying], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Iterator[Checkout]:
    for namespace in NAMESPACES if shutil.which("unshare") else ():
        behind = [*namespace, "sh", "-c", MOUNT, "sh", str(ROOT)]
        if is_read_only(behind, ROOT):
            yield Checkout(ROOT, behind)
            return
    if os.geteuid() == 0:
        pytest.skip("neither a mount of our own nor permissions can keep this user from writing")
    copy = tmp_path_factory.mktemp("checkout")
    for name in (*PACKAGES, "README.md"):
        of = ROOT / name
        shutil.copytree(of, copy / name) if of.is_dir() else shutil.copy(of, copy)
    subprocess.run(["chmod", "-R", "a-w", copy], check=True)
    assert is_read_only([], copy)
    yield Checkout(copy, [])
    subprocess.run(["chmod", "-R", "u+w", copy], check=True)


QUESTION = {"id": "1", "question": "What is the capital of France?", "answers": ["Paris"]}
PASSAGE = {"id": "8", "title": "Paris", "text": "Paris is the capital of France."}
PREDICTION = {"question": "What is the capital of France?", "answer": "Paris", "pred_ans": "Paris"}


@pytest.fixture
def place(tmp_path) -> Path:
    for name, row in (("q", QUESTION), ("c", PASSAGE), ("p", PREDICTION)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


WORLD = ("--stage1", 2, "--stage2", 2, "--heldout", 2)
WORK = [
    ("data_prep.questions", "--dataset", "nq", "--input", "q.jsonl", "--out", "o.jsonl"),
    ("data_prep.corpus", "--input", "c.jsonl", "--out", "store", "--processes", 1),
    ("retriever.build", "--corpus", "store", "--backend", "bm25", "--out", "index"),
    ("retriever.check", "--index", "index", "--k", 1),
    ("data_prep.tiny_world", "--out", "world", *WORLD),
    ("eval.score", "p.jsonl", "--json", "s.json"),
    ("r1_searcher.train", "--system", "r1_searcher", "--stage", "stage1", "--preset", "tiny", "--dry-run"),
]
"""Commands in a folder of one's own; the last one says where a run would lie."""
INSIDE = [
    ("data_prep.questions", "--dataset", "nq", "--input", "q.jsonl", "--out", "{inside}"),
    ("data_prep.corpus", "--input", "c.jsonl", "--out", "{inside}", "--processes", 1),
    ("retriever.build", "--corpus", "c.jsonl", "--backend", "bm25", "--out", "{inside}"),
    ("data_prep.tiny_world", "--out", "{inside}", *WORLD),
    ("eval.score", "p.jsonl", "--json", "{inside}"),
]
"""What would be written into the checkout."""


def test_commands_work_from_it_and_writing_into_it_is_one_line(checkout, place):
    inside = checkout.folder / "made_by_a_test"
    refused = [[str(word).format(inside=inside) for word in words] for words in INSIDE]
    ended = checkout.ended([*WORK, *refused], place)
    worked, rest = ended[: len(WORK)], ended[len(WORK) :]
    assert [status for status, _, _ in worked] == [0] * len(WORK), worked
    assert f"{place}/runs/" in worked[-1][2] and str(checkout.folder / "runs") not in worked[-1][2]
    for (command, *_), (status, said, _) in zip(refused, rest, strict=True):
        last = said.splitlines()[-1]
        assert status == 2 and last.startswith((f"{command}: ", f"{command.rpartition('.')[2]}: ")), said
        assert str(inside) in last and "choose another path" in last and "Traceback" not in said
