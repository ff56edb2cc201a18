"""A system of the user's own, in one file: the one of docs/add_a_protocol.md goes through every command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from support.episodes.fakes import ByteTokenizer, passages, play
from support.runs.reports import Embedded
from support.services.fake_endpoint import choice, serve
from werkzeug.serving import make_server

from data_prep.good_trajectories import main as good_trajectories
from data_prep.select.__main__ import main as select
from eval.report.__main__ import main as report
from eval.rescore import main as rescore
from eval.run import main as evaluate
from eval.score import main as score_predictions
from r1_searcher.doctor.__main__ import main as examine
from r1_searcher.episode.question import read_rows
from r1_searcher.episode.tokenization import HFTokenizer
from r1_searcher.episode.trajectory import SpanKind, StopReason
from r1_searcher.recipe.plugins import load_plugin
from r1_searcher.recipe.protocols import PROTOCOLS
from r1_searcher.recipe.recipe import RECIPES
from r1_searcher.reward.rewards import REWARDS, score
from r1_searcher.reward_server import main as serve_rewards
from r1_searcher.run.run_config import RetrieverConfig, RunConfig
from r1_searcher.sft import main as fine_tune
from r1_searcher.train import main as train
from retriever.index.bm25 import Bm25Index
from retriever.passage import Passage
from retriever.server.app import create_app

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "add_a_protocol.md"
MODEL = str(ROOT / "data_prep" / "tiny" / "model")
TABLES: Sequence[dict] = (PROTOCOLS, REWARDS, RECIPES)
OURS = [dict(table) for table in TABLES]
NOBODY = "http://127.0.0.1:9"


def forget() -> None:
    """Leave the tables as a new process has them."""
    for table, rows in zip(TABLES, OURS, strict=True):
        table.clear()
        table.update(rows)
    for name in [name for name in sys.modules if name.startswith("r1_searcher_plugin_")]:
        del sys.modules[name]


def run(main: Callable[[Sequence[str]], int], *arguments: object) -> int:
    """Status of a command that starts without any system of the user's."""
    forget()
    return main([str(argument) for argument in arguments])


@pytest.fixture
def plugin(tmp_path) -> Iterator[Path]:
    """The file of the page."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "haiku_search.py"
    file.write_text(code, encoding="utf-8")
    yield file
    forget()


@pytest.fixture
def data(tmp_path) -> Path:
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps({"id": "q", "question": "Where is the tower?", "answers": ["Paris"]}) + "\n")
    return file


@pytest.fixture(scope="module")
def search() -> Iterator[str]:
    index = Bm25Index.build([Passage("1", "Tower", "The tower is in Paris.")])
    server = make_server("127.0.0.1", 0, create_app(index), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()


@pytest.fixture(scope="module")
def tokenizer() -> HFTokenizer:
    from r1_searcher.host.model_folder import load_tokenizer

    return load_tokenizer(MODEL)


@pytest.fixture
def endpoint(tokenizer) -> Iterator[str]:
    """A model that searches once and answers."""

    def reply(request, seen):
        found = "\n[found]\n" in tokenizer.decode(request["prompt"])
        text, stop = (" [is] Paris [/is]", "[/is]") if found else (" [hm] where? [/hm] [ask] tower [/ask]", "[/ask]")
        return choice(text=text, token_ids=tokenizer.encode(text), finish_reason="stop", stop_reason=stop)

    with serve(reply) as running:
        yield running.url


@pytest.fixture
def evaluation(plugin, data, search, endpoint, tmp_path) -> Path:
    """The folder of an evaluation with the plugin's recipe."""
    out = tmp_path / "evaluation"
    model = ("--model", "m", "--endpoint", endpoint, "--tokenizer", MODEL)
    system = ("--recipe", "haiku_search", "--plugin", plugin, "--max-length", 512)
    assert run(evaluate, *system, *model, "--data", data, "--search", search, "--out", out) == 0
    return out


def train_command(plugin: Path, data: Path, *more: object) -> tuple[object, ...]:
    system = ("--plugin", plugin, "--recipe", "haiku_search", "--run-dir", data.parent / "run", "--data", data)
    return (*system, "--search", NOBODY, "--actor.model_name_or_path", MODEL, "--dry-run", *more)


def run_folder(plugin: Path, recipe: str = "haiku_search") -> Path:
    """The configuration that a training run of the recipe has."""
    forget()
    load_plugin(plugin)
    folder = plugin.parent / "run"
    (folder / "trajectories").mkdir(parents=True)
    RunConfig(str(folder), RECIPES[recipe], RetrieverConfig(NOBODY), plugins=(str(plugin),)).write(folder / "run.json")
    return folder


def test_the_system_of_the_page_fits_in_sixty_lines(plugin):
    assert len(plugin.read_text().splitlines()) < 60


def test_it_plays_and_is_rewarded(plugin):
    load_plugin(plugin)
    recipe = RECIPES["haiku_search"]
    played = play(
        ["[hm] where? [/hm] [ask] tower [/ask]", "[is] Paris [/is]"],
        passages("It stands in Paris."),
        protocol=recipe.protocol,
        limits=recipe.limits,
        tokenizer=ByteTokenizer(recipe.protocol.tags),
    )
    trajectory = played.trajectory
    assert (trajectory.stop_reason, trajectory.answer) == (StopReason.ANSWERED, "Paris")
    assert played.texts(SpanKind.DOCUMENTS) == ["\n[found]\n1. T1 It stands in Paris.\n[/found]\n"]
    result = score(recipe.reward, trajectory, recipe.protocol)
    assert (result.total, result.rules) == (pytest.approx(1.3), {"one_answer": True})


def test_every_process_of_a_run_knows_it(plugin):
    code = "import sys; from r1_searcher.run.run_config import RunConfig; "
    code += "print(RunConfig.read(sys.argv[1]).recipe.reward.name)"
    command = [sys.executable, "-c", code, str(run_folder(plugin) / "run.json")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "haiku_search.f1\n"


def test_it_trains_with_the_limits_that_evaluation_takes_too(plugin, data, capsys):
    limits = ("--max-length", 999, "--answer-tokens", 9, "--document-tokens", 99, "--max-searches", 2)
    assert run(train, *train_command(plugin, data, *limits)) == 0
    assert "--data.max_len 999" in capsys.readouterr().out
    assert run(train, *train_command(plugin, data, "--max-length", 999, "--data.max_len", 999)) == 2
    assert "mean the same" in capsys.readouterr().err


def test_it_is_examined(plugin, capsys):
    system = ("--recipe", "haiku_search", "--plugin", plugin, "--max-length", 512)
    assert run(examine, *system, "--model", MODEL) in (0, 2)  # other checks are about this machine
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["episode"].startswith("ok"), lines["episode"]


def test_it_is_evaluated(evaluation):
    (line,) = (json.loads(line) for line in (evaluation / "predictions.jsonl").open())
    assert (line["answer"], line["reward"]["total"]) == ("Paris", pytest.approx(1.3))
    assert json.loads((evaluation / "evaluation.json").read_text())["plugins"][0].endswith("haiku_search.py")


def test_an_evaluation_takes_the_system_of_the_run_that_it_is_of(plugin, data, search, endpoint, tmp_path):
    model = ("--model", "m", "--endpoint", endpoint, "--tokenizer", MODEL, "--max-length", 512)
    common = (*model, "--data", data, "--search", search, "--out", tmp_path / "out")
    assert run(evaluate, "--like", run_folder(plugin), *common) == 0
    settings = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (settings["recipe"]["name"], settings["limits"]["max_searches"]) == ("haiku_search", 3)
    assert settings["plugins"] == [str(plugin)]


def test_an_evaluation_like_nothing_is_refused(data, tmp_path, capsys):
    common = ("--model", MODEL, "--data", data, "--search", NOBODY, "--out", tmp_path / "out")
    for chosen, complaint in (
        ((), "give either --recipe NAME or --like RUN"),
        (("--like", tmp_path / "none"), "no training run"),
        (("--like", tmp_path, "--recipe", "tiny.stage2"), "give either"),
    ):
        assert run(evaluate, *chosen, *common) == 2
        error = capsys.readouterr().err
        assert complaint in error and error.count("\n") == 1


def test_it_is_rescored_as_it_was_trained(evaluation, tmp_path):
    out = tmp_path / "scores.json"
    assert run(rescore, evaluation / "predictions.jsonl", "--reward", "haiku_search.f1", "--json", out) == 2
    plugin = tmp_path / "haiku_search.py"
    options = ("--plugin", plugin, "--json", out)
    assert run(rescore, evaluation / "predictions.jsonl", "--reward", "haiku_search.f1", *options) == 0
    found = json.loads(out.read_text())
    assert (found["scores"], found["protocol"], found["rules"]) == ([1.3], "haiku_search", {"one_answer": 0})


def test_it_is_exported_for_fine_tuning(evaluation, tmp_path):
    out = tmp_path / "sft.jsonl"
    assert run(good_trajectories, evaluation, "--model", MODEL, "--min-reward", 1, "--out", out) == 0
    (row,) = [json.loads(line) for line in out.open()]
    assert row["text"].count("[/is]") == 2 and len(row["targets"]) == 2
    batch = ("--train.batch_size", 1, "--train.micro_batch_size", 1)
    assert run(fine_tune, "--model", MODEL, "--data", out, "--out", tmp_path / "tuned", "--dry-run", *batch) == 0


def test_its_evaluation_is_scored(evaluation, plugin, tmp_path):
    plugin.unlink()
    out = tmp_path / "scores.json"
    assert run(score_predictions, evaluation, "--json", out) == 0
    assert json.loads(out.read_text())["greedy"]["f1"] == 1.0


def test_questions_are_selected_with_it(plugin, data, search, endpoint, tmp_path, capsys):
    model = ("--model", "m", "--endpoint", endpoint, "--tokenizer", MODEL)
    rollouts = ("--recipe", "haiku_search", "--closed-book-k", 0, "--stage1", "*:easy=all", "--stage2")
    common = ("--data", data, "--search", search, "--out", tmp_path / "selection", *model, *rollouts)
    assert run(select, *common) == 2
    assert "unknown recipe 'haiku_search'" in capsys.readouterr().err
    assert run(select, *common, "--plugin", plugin) == 0
    (row,) = read_rows(tmp_path / "selection" / "stage1.jsonl")
    assert row.question == "Where is the tower?"


def test_it_is_reported_with_its_own_plugin(evaluation, plugin, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert run(report, evaluation, "--out", page) == 0
    shown = json.dumps(Embedded(page.read_text()).head)
    assert "ours, for this page" in shown and "The policy opens its answer once." in shown
    moved = plugin.rename(tmp_path / "moved.py")
    assert run(report, evaluation, "--out", page) == 2
    error = capsys.readouterr().err
    assert "plugin not found" in error and "--plugin" in error and error.count("\n") == 1
    assert run(report, evaluation, "--out", page, "--plugin", moved) == 0


@pytest.fixture
def signals() -> Iterator[None]:
    """The reward server takes over SIGINT and SIGTERM; the tests get them back."""
    taken = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in taken.items():
        signal.signal(number, handler)


def test_its_reward_is_served(plugin, signals, capsys):
    names = ("--reward", "haiku_search.f1", "--protocol", "haiku_search", "--host", "192.0.2.1")
    assert run(serve_rewards, *names) == 2
    assert "unknown reward 'haiku_search.f1'" in capsys.readouterr().err
    assert run(serve_rewards, *names, "--plugin", plugin) == 2
    assert "cannot listen on 192.0.2.1" in capsys.readouterr().err  # the names are known


def test_its_reward_is_a_file_for_the_trainer(plugin):
    code = "import json, sys; from r1_searcher.reward_func import reward_func; "
    code += "json.dump(reward_func(*json.load(sys.stdin)), sys.stdout)"
    names = {"R1_SEARCHER_REWARD": "haiku_search.f1", "R1_SEARCHER_PROTOCOL": "haiku_search"}
    environment = {**os.environ, **names, "R1_SEARCHER_PLUGINS": str(plugin), "PYTHONPATH": str(ROOT)}
    completion = "[hm] where? [/hm] [ask] tower [/ask]\n[found]\n1. It is in Paris.\n[/found]\n[is] Paris [/is]"
    asked = [["Where?\n" + completion], ["Where?\n"], ['{"question": "Where?", "answers": ["Paris"]}']]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, input=json.dumps(asked), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rewards"] == pytest.approx(1.3)
    assert set(found["extra_logs"]) == {"reward/answer", "reward/retrieval", "reward/brevity", "rule/one_answer"}
