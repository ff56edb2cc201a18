"""Bad input, given as a user gives it: one line on stderr, at once, and nothing written."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from r1_searcher import reward_func
from r1_searcher.episode.question import QARow
from r1_searcher.run.run_folder import RunFolder, identity_of

SECONDS = 20.0
"""Bound for a message; on an idle machine it takes 2 to 6 seconds."""
THIRD_PARTY = re.compile(r".*: FutureWarning: The pynvml package is deprecated\..*|  import pynvml.*")
"""Lines on stderr that others write."""


@dataclass
class Place:
    """One command line about to be spoilt, and a folder for its files."""

    folder: Path
    options: dict[str, str]
    flags: dict[str, str]

    @property
    def run_dir(self) -> Path:
        return Path(self.options["--run-dir"])

    def file(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def argv(self) -> list[str]:
        pairs = {**self.options, **self.flags}.items()
        return [word for name, value in pairs for word in ((name, value) if value is not None else (name,))]


def data(text: str) -> Callable[[Place], None]:
    return lambda place: place.options.update({"--data": place.file("bad.jsonl", text)})


def option(name: str, value: str | None) -> Callable[[Place], None]:
    return lambda place: place.options.update({name: value.format(folder=place.folder) if value else value})


def flag(name: str, value: str | None) -> Callable[[Place], None]:
    return lambda place: place.flags.update({name: value.format(folder=place.folder) if value else value})


def another_run(place: Place) -> None:
    RunFolder(place.run_dir).prepare(identity_of({"name": "another"}, [QARow("q", "q?", ("a",))], []), [])


def foreign_folder(place: Place) -> None:
    place.run_dir.mkdir()
    (place.run_dir / "thesis.tex").write_text("ten years of work")


def model_without_config(place: Place) -> None:
    (place.folder / "half_model").mkdir()
    place.flags["--actor.model_name_or_path"] = str(place.folder / "half_model")


def model_without_tokenizer(place: Place) -> None:
    folder = place.folder / "no_tokenizer"
    folder.mkdir()
    shutil.copy(Path(place.flags["--actor.model_name_or_path"]) / "config.json", folder)
    place.flags["--actor.model_name_or_path"] = str(folder)


def judge(**options: str) -> Callable[[Place], None]:
    names = {"--judge-url": "http://127.0.0.1:9", "--judge-model": "judge", "--reward-url": reward_func.__file__}
    return lambda place: place.options.update({**names, **{f"--{name}": value for name, value in options.items()}})


GOOD = '{"id": "a", "question": "Who?", "answers": ["x"]}\n'

CASES: dict[str, tuple[Callable[[Place], None], list[str]]] = {
    "dataset missing": (
        option("--data", "{folder}/nowhere.jsonl"),
        ["dataset not found", "nowhere.jsonl", "JSONL"],
    ),
    "dataset is a folder": (option("--data", "{folder}"), ["dataset", "JSONL"]),
    "dataset empty": (data("\n \n"), ["dataset is empty", "bad.jsonl", "at least one"]),
    "not JSON": (data(GOOD + "\n" + "{'id': 1}\n"), ["bad.jsonl", "line 3", "JSON"]),
    "row without answer": (data(GOOD + '{"question": "Why?"}\n'), ["line 2", "answers", "None"]),
    "half an emoji": (
        data(GOOD + '{"question": "Who sang \\ud83d?", "answer": "x"}\n'),
        ["bad.jsonl", "line 2", "half of a surrogate pair"],
    ),
    "row without question": (data('{"answer": "x"}\n'), ["line 1", "question"]),
    "hops is no number": (data('{"question": "q", "answer": "x", "hops": [2]}\n'), ["line 1", "hops"]),
    "dataset is binary": (
        lambda place: (
            (place.folder / "bad.jsonl").write_bytes(b"\xff\xfe\x00")
            and place.options.update({"--data": str(place.folder / "bad.jsonl")})
        ),
        ["bad.jsonl"],
    ),
    "unknown recipe": (option("--recipe", "tiny.stage3"), ["unknown recipe 'tiny.stage3'", "tiny.stage1"]),
    "unknown reward": (option("--reward", "best"), ["unknown reward 'best'", "r1_searcher.stage2"]),
    "top-k of zero": (option("--top-k", "0"), ["top_k", "at least 1", "0"]),
    "timeout of zero": (option("--retriever-timeout", "0"), ["--retriever-timeout", "0"]),
    "no attempts": (option("--retriever-attempts", "0"), ["--retriever-attempts", "0"]),
    "option without value": (option("--max-searches", None), ["--max-searches", "expected one argument"]),
    "no model": (lambda place: place.flags.pop("--actor.model_name_or_path"), ["--actor.model_name_or_path"]),
    "model missing": (
        flag("--actor.model_name_or_path", "{folder}/nowhere"),
        ["model path not found", "nowhere"],
    ),
    "model without config": (model_without_config, ["half_model", "config.json"]),
    "model without tokenizer": (model_without_tokenizer, ["no_tokenizer", "tokenizer"]),
    "retriever dead": (option("--retriever-url", "DEAD"), ["retriever does not answer", "127.0.0.1"]),
    "retriever nonsense": (option("--retriever-url", "nonsense"), ["nonsense", "http://HOST:PORT"]),
    "reward file missing": (
        option("--reward-url", "{folder}/no.py"),
        ["reward function file not found", "no.py"],
    ),
    "reward server dead": (
        option("--reward-url", "DEAD/get_reward"),
        ["reward server", "does not answer", "127.0.0.1"],
    ),
    "reward url broken": (option("--reward-url", "http://[::1/x"), ["reward", "http://[::1/x"]),
    "judge beside a reward file": (judge(reward="judge=1"), ["judge", "in-process", "--reward-url"]),
    "judge that a reward file never asks": (judge(), ["judge", "in-process", "--judge-url"]),
    "another run": (another_run, ["holds another run", "--run-dir"]),
    "foreign folder": (foreign_folder, ["holds no run", "--run-dir"]),
    "unknown flag": (flag("--train.batchsize", "8"), ["OpenRLHF", "--train.batchsize"]),
    "stray word": (lambda place: place.flags.update({"stray": None}), ["stray"]),
    "prompt too long": (flag("--data.max_len", "40"), ["question", "tokens", "--max-length", "40"]),
    "too few questions": (
        flag("--rollout.batch_size", "1000"),
        ["96 questions", "1000", "--rollout.batch_size"],
    ),
    "batch does not divide": (flag("--train.batch_size", "48"), ["64", "48", "--train.batch_size"]),
    "ranks cannot share": (flag("--actor.num_gpus_per_node", "3"), ["64 episodes", "3 actor ranks", "evenly"]),
    "no steps": (option("--max-steps", "0"), ["--max-steps", "at least 1", "0"]),
    "negative steps": (option("--max-steps", "-1"), ["--max-steps", "at least 1", "-1"]),
    "batch of zero": (flag("--train.batch_size", "0"), ["--train.batch_size", "0"]),
    "rollout of zero": (flag("--rollout.batch_size", "0"), ["--rollout.batch_size", "0"]),
    "no CUDA": (option("--device", "cuda"), ["no GPU", "--device"]),
}
"""Name -> (what spoils the command line, words that the message must hold)."""

AS_PROCESS = (
    *(
        "dataset missing",
        "dataset empty",
        "not JSON",
        "row without answer",
        "unknown recipe",
        "model missing",
    ),
    *(
        "model without config",
        "retriever dead",
        "retriever nonsense",
        "reward file missing",
        "reward server dead",
    ),
    *("another run", "foreign folder", "unknown flag", "prompt too long", "too few questions"),
    *("batch does not divide", "no CUDA"),
)
"""Run as processes too; a process costs the import of torch."""
AT_ONCE = ("unknown recipe",)
"""Those of them that the default run starts: one refused before anything is loaded; `main` refuses all in-process."""


@pytest.fixture
def place(tmp_path, world, model, retriever_url):
    return good_command(tmp_path, world, model, retriever_url)


def good_command(folder: Path, world: Path, model: Path, retriever_url: str) -> Place:
    return Place(
        folder,
        {
            "--recipe": "tiny.stage1",
            "--run-dir": str(folder / "run"),
            "--data": str(world / "stage1.jsonl"),
            "--retriever-url": retriever_url,
        },
        {
            "--actor.model_name_or_path": str(model),
            **{
                "--rollout.batch_size": "8",
                "--rollout.n_samples_per_prompt": "8",
                "--train.batch_size": "64",
            },
            **{"--algo.advantage.estimator": "reinforce_baseline", "--algo.kl.init_coef": "0"},
        },
    )


def spoil(case: str, place: Place, dead_url: str) -> list[str]:
    CASES[case][0](place)
    return [word.replace("DEAD", dead_url) for word in place.argv()]


def listing(folder: Path) -> list[tuple[str, int, int]]:
    """Whose times are those of files: a folder is held while it is looked at, by a file that comes and goes."""
    found = ((path, path.stat()) for path in sorted(folder.rglob("*")))
    return [(str(path), stat.st_mtime_ns if path.is_file() else 0, stat.st_size) for path, stat in found]


def one_line(case: str, stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if not THIRD_PARTY.fullmatch(line)]
    assert len(lines) == 1, stderr
    missing = [word for word in CASES[case][1] if word not in lines[0]]
    assert not missing and len(lines[0]) < 500, lines[0]
    return lines[0]


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_leaves_no_trace(case, place, dead_url, capfd, monkeypatch):
    from r1_searcher import train

    monkeypatch.setattr(train, "launch", lambda *_: pytest.fail("this was taken, and training would start"))
    argv = spoil(case, place, dead_url)
    before = listing(place.folder)
    capfd.readouterr()
    try:
        status = train.main(argv)
    except SystemExit as left:
        status = left.code
    captured = capfd.readouterr()
    assert status == 2 and captured.out == ""
    one_line(case, captured.err)
    assert listing(place.folder) == before


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in AT_ONCE else pytest.mark.slow) for case in AS_PROCESS]
)
def test_the_process_ends_at_once_with_one_line(case, place, dead_url, train):
    argv = spoil(case, place, dead_url)
    before = listing(place.folder)
    done = train(*argv, cwd=place.folder, timeout=60)
    line = one_line(case, done.err)
    print(f"{done.seconds:.1f} s: {line}")
    assert done.status == 2 and done.out == ""
    assert listing(place.folder) == before
    assert done.seconds < SECONDS


def test_a_run_at_which_a_process_works_is_left_to_it(place, capfd, monkeypatch):
    """The second call of a command ended the first one's training."""
    from r1_searcher import train

    for name in ("check_before_start", "launch"):
        monkeypatch.setattr(train, name, lambda *_: pytest.fail("a folder that is held was worked on"))
    folder = RunFolder(place.run_dir)
    folder.prepare(identity_of({"name": "tiny.stage1"}, [QARow("q", "q?", ("a",))], []), [])
    folder.session_file.write_text("of the first")
    with folder.held():
        before = listing(place.folder)
        capfd.readouterr()
        assert train.main(place.argv()) == 2
        assert listing(place.folder) == before
    error = capfd.readouterr().err
    assert f"r1_searcher.train: {place.run_dir} is held by {os.getpid()} on" in error and error.count("\n") == 1


def test_the_command_before_it_is_spoilt_is_good(place, monkeypatch):
    """So that each message above is about the one thing that was spoilt."""
    from r1_searcher import train

    launched = []
    monkeypatch.setattr(
        train, "launch", lambda options, plan, extent, folder, corpus: launched.append(folder.path) or 0
    )
    assert train.main(place.argv()) == 0 and launched == [place.run_dir]
    assert json.loads((place.run_dir / "identity.json").read_text())["questions"] == 96
    assert train.main(place.argv()) == 0 and len(launched) == 2, "the same command continues"
    (place.run_dir / "complete").touch()
    assert train.main(place.argv()) == 0 and len(launched) == 2, "a complete run is left alone"


def test_a_keyboard_interrupt_while_checking_is_no_traceback(place, monkeypatch, capfd):
    from r1_searcher import train

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "check_before_start", interrupted)
    try:
        status = train.main(place.argv())
    except KeyboardInterrupt:  # would end pytest itself
        pytest.fail("a traceback of KeyboardInterrupt")
    assert status == 130
    assert "Traceback" not in capfd.readouterr().err
