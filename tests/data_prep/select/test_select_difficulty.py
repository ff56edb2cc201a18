"""Difficulty selection: classes, sets, resuming, the manifest; the episodes are real, the model is a script."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.episodes.fakes import FakeRetriever, ScriptedPolicy, ask, passages, say, tag_tokenizer
from support.processes.commands import status_of

from data_prep.select.__main__ import Surroundings, select
from data_prep.select.options import job_of, parse, recorded
from foundation.chat.endpoint import EndpointConfig
from foundation.cli import run_command
from foundation.errors import InputError
from foundation.retry import RetryPolicy
from r1_searcher.episode.policy import Completion
from r1_searcher.episode.question import QARow, read_rows
from r1_searcher.inference.decoding import Decoding
from r1_searcher.inference.options import concurrency_of, model_of
from r1_searcher.inference.policies import ServedModel
from r1_searcher.inference.sources import SearchSources
from retriever.errors import RetrieverUnavailable

TOKENIZER = tag_tokenizer()
NEVER = 99


@dataclass(frozen=True)
class Skill:
    """From which rollout on the model answers a question, without and with search."""

    closed_book: int = NEVER
    search: int = NEVER


@dataclass
class ScriptedModel:
    """Answers at once what it knows, and else after a search; is also its own source of policies."""

    skills: dict[str, Skill]
    stops_after: int = 10**9
    """Turns until it is interrupted, as by a kill."""
    model: str = "toy"
    asked: list[tuple[str, int]] = field(default_factory=list)
    """Question and seed of every episode."""
    is_stopped: bool = False

    identity = {"kind": "script"}

    def check(self) -> None:
        pass

    def load_tokenizer(self):
        return TOKENIZER

    @contextlib.asynccontextmanager
    async def policies(self, *_):
        yield self

    async def interrupt(self) -> None:
        """As Ctrl-C: one signal, upon which asyncio cancels the command."""
        if not self.is_stopped:
            self.is_stopped = True
            signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()

    def policy(self, decoding: Decoding) -> ScriptedTurns:
        return ScriptedTurns(self, decoding.seed)


@dataclass
class ScriptedTurns:
    model: ScriptedModel
    seed: int

    async def generate(self, ids: Sequence[int], *, stops: Sequence[str], max_tokens: int) -> Completion:
        text = TOKENIZER.decode(ids)
        question = next(each for each in self.model.skills if f" {each}" in text.split("\n")[0])
        skill, answer = self.model.skills[question], f"a{question[1:-1]}"
        if f"<|begin_of_query|>{question}" in text:
            turn = say(answer if self.seed >= skill.search else "nothing")
        else:
            if len(self.model.asked) >= self.model.stops_after:
                await self.model.interrupt()
            self.model.asked.append((question, self.seed))
            turn = say(answer) if self.seed >= skill.closed_book else ask(question)
        return await ScriptedPolicy(TOKENIZER, [turn]).generate(ids, stops=stops, max_tokens=max_tokens)


@dataclass(frozen=True)
class FakeSources(SearchSources):
    """Searches that a script answers."""

    retriever: FakeRetriever = field(default_factory=FakeRetriever)

    def facts(self):
        return {"index": "fake"}

    def open(self):
        return self.retriever, {}


@dataclass
class World:
    """A folder with questions, and the command on them."""

    folder: Path
    skills: dict[str, Skill]
    retriever: FakeRetriever = field(default_factory=lambda: FakeRetriever((passages("a fact"),)))

    def write(self, sources: Sequence[str] = ("x", "y")) -> Path:
        file = self.folder / "questions.jsonl"
        rows = [
            QARow(f"id{question[1:-1]}", question, (f"a{question[1:-1]}",), sources[number % len(sources)])
            for number, question in enumerate(self.skills)
        ]
        file.write_text("".join(row.to_json() + "\n" for row in rows))
        return file

    def run(self, out: str, *more: str, model: ScriptedModel | None = None) -> tuple[int, ScriptedModel]:
        model = model or ScriptedModel(self.skills)
        surroundings = Surroundings(
            model=lambda options: model,
            services=lambda options, contestant: FakeSources("fake", retriever=self.retriever),
            console=lambda file: contextlib.nullcontext(io.StringIO()),
        )

        def command(argv: Sequence[str]) -> int:
            return run_command("select", lambda: select(argv, surroundings), resumable=True)

        return status_of(command, *more, "--out", self.folder / out), model

    def texts(self, out: str) -> dict[str, str]:
        names = ("questions.jsonl", "stage1.jsonl", "stage2.jsonl")
        return {name: (self.folder / out / name).read_text() for name in names}

    def manifest(self, out: str) -> dict:
        return json.loads((self.folder / out / "manifest.json").read_text())


SKILLS = {
    "Q0?": Skill(closed_book=1),
    "Q1?": Skill(search=0),
    "Q2?": Skill(search=1),
    "Q3?": Skill(search=2),
    "Q4?": Skill(search=3),
    "Q5?": Skill(),
    "Q6?": Skill(closed_book=0, search=0),
}
RECIPES = ["--recipe", "tiny.stage2", "--closed-book", "tiny.closed_book", "--model", "toy"]
SMALL = ["--k", "3", "--closed-book-k", "2", "--easy-below", "2", "--hard-above", "3"]
STAGES = ["--stage1", "*:medium=1", "--stage2", "*:medium=all", "*:hard=all"]


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path, dict(SKILLS))


@pytest.fixture
def command(world) -> list[str]:
    return ["--data", str(world.write()), *RECIPES, *SMALL, *STAGES]


def test_classes_and_sets(world, command):
    status, model = world.run("out", *command)
    assert status == 0
    lines = [json.loads(line) for line in world.texts("out")["questions.jsonl"].splitlines()]
    found = {line["question"]: (line["difficulty"], line["rollouts"], line["known"]) for line in lines}
    assert found == {
        "Q0?": ("known", 0, True),
        "Q1?": ("easy", 1, False),
        "Q2?": ("medium", 2, False),
        "Q3?": ("medium", 3, False),
        "Q4?": ("hard", 3, False),
        "Q5?": ("hard", 3, False),
        "Q6?": ("known", 0, True),
    }
    stage1, stage2 = (read_rows(world.folder / "out" / f"stage{n}.jsonl") for n in (1, 2))
    assert len(stage1) == 1 and {row.question for row in [*stage1, *stage2]} == {"Q2?", "Q3?", "Q4?", "Q5?"}
    manifest = world.manifest("out")
    assert manifest["counts"]["x"] == {"known": 2, "easy": 0, "medium": 1, "hard": 1}
    assert manifest["seeds"] == {"closed_book": [0, 1], "search": [0, 1, 2]}
    assert manifest["stages"]["stage1"] == {"questions": 1, "taken": {"*:medium=1": 1}}
    assert manifest["settings"]["search"]["retriever"] == {"index": "fake"}
    assert manifest["settings"]["closed_book"]["retriever"] is None
    # once right, a question is asked no more
    assert model.asked.count(("Q6?", 0)) == 1 and model.asked.count(("Q1?", 0)) == 2 and len(model.asked) == 27 - 2


def test_known_questions_may_be_kept_and_marked(world, command):
    assert world.run("out", *command, "--known", "mark")[0] == 0
    lines = [json.loads(line) for line in world.texts("out")["questions.jsonl"].splitlines()]
    assert [(line["question"], line["difficulty"]) for line in lines if line["known"]] == [
        ("Q0?", "medium"),
        ("Q6?", "easy"),
    ]
    assert world.run("unfiltered", *command, "--closed-book-k", "0")[0] == 0
    assert world.manifest("unfiltered")["known"] == 0


@pytest.mark.parametrize("stops_after", [1, 9, 16, 24])
def test_interrupted_at_any_point_the_sets_are_the_same_and_nothing_is_asked_twice(world, command, stops_after):
    _, whole = world.run("whole", *command)
    stopped = ScriptedModel(world.skills, stops_after=stops_after)
    status, _ = world.run("stopped", *command, "--concurrency", "2", model=stopped)
    assert status == 130 and not (world.folder / "stopped" / "manifest.json").exists()
    file = world.folder / "stopped" / "rollouts.jsonl"
    finished = file.read_text().count("\n")
    assert finished >= stops_after - 2
    with file.open("a") as half:
        half.write('{"phase": "search", "id": "id')
    status, resumed = world.run("stopped", *command)
    assert status == 0 and len(resumed.asked) == len(whole.asked) - finished
    assert world.texts("stopped") == world.texts("whole")
    assert world.manifest("stopped")["outputs_sha256"] == world.manifest("whole")["outputs_sha256"]
    assert world.run("whole", *command)[1].asked == []


def test_the_manifest_rebuilds_the_sets_with_and_without_the_rollouts(world, command, caplog):
    caplog.set_level("INFO")
    world.run("out", *command)
    manifest = world.folder / "out" / "manifest.json"
    status, model = world.run("again", "--from-manifest", str(manifest))
    assert (status, model.asked) == (0, []) and world.texts("again") == world.texts("out")
    alone = world.folder / "alone.json"
    alone.write_bytes(manifest.read_bytes())
    status, model = world.run("played", "--from-manifest", str(alone), "--model", "toy")
    assert status == 0 and len(model.asked) == 25 and world.texts("played") == world.texts("out")
    assert caplog.text.count("the sets are those of") == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"endpoint": "http://127.0.0.1:9", "key_variable": "AWS_SECRET_ACCESS_KEY"},
            "sets 'endpoint', 'key_variable'",
        ),
        ({"plugins": ["/tmp/evil.py"]}, "sets 'plugins'"),
        ({"search": "record:/tmp/x|http://a"}, "sets 'search'"),
        ({"k": ["20"]}, "k cannot be ['20']"),
        ({"k": "many"}, "k cannot be 'many'"),
        ({"known": "all"}, "known cannot be 'all'"),
        ({"stage1": "x"}, "stage1 cannot be 'x'"),
        ({"endpoint_text": "yes"}, "endpoint_text cannot be 'yes'"),
    ],
)
def test_a_strangers_manifest_names_neither_keys_nor_addresses_nor_code(world, command, capsys, options, said):
    world.run("out", *command)
    manifest = json.loads((world.folder / "out" / "manifest.json").read_text())
    evil = world.folder / "evil.json"
    evil.write_text(json.dumps(manifest | {"options": manifest["options"] | options}))
    status, model = world.run("mine", "--from-manifest", str(evil))
    assert (status, model.asked) == (2, []) and said in capsys.readouterr().err
    assert not (world.folder / "mine").exists()


def test_a_model_that_only_a_manifest_names_is_not_loaded(world, command, capsys):
    world.run("out", *command)
    alone = world.folder / "alone.json"
    alone.write_bytes((world.folder / "out" / "manifest.json").read_bytes())
    status, model = world.run("mine", "--from-manifest", str(alone))
    assert (status, model.asked) == (2, []) and "name the model on the command line" in capsys.readouterr().err


def test_what_cannot_be_rebuilt_is_said(world, command, capsys):
    world.run("out", *command)
    manifest = world.folder / "out" / "manifest.json"
    alone = world.folder / "alone.json"
    alone.write_bytes(manifest.read_bytes())
    better = ScriptedModel(world.skills | {"Q5?": Skill(search=0)})
    assert world.run("better", "--from-manifest", str(alone), "--model", "toy", model=better)[0] == 3
    assert "questions.jsonl, stage2.jsonl differ" in capsys.readouterr().err
    other = ScriptedModel(SKILLS, model="other")
    assert world.run("other", "--from-manifest", str(alone), "--model", "toy", model=other)[0] == 2
    assert "model: there 'toy', here 'other'" in capsys.readouterr().err
    world.skills.pop("Q1?")
    world.write()
    assert world.run("other", "--from-manifest", str(manifest))[0] == 2
    assert "--data is not the manifest's" in capsys.readouterr().err and not (world.folder / "other").exists()


def test_other_bounds_and_sets_need_no_new_rollouts(world, command):
    world.run("out", *command)
    status, model = world.run("out", *command, "--easy-below", "3", "--stage1", "x:medium=all", "y:hard=1")
    assert (status, model.asked) == (0, []) and world.manifest("out")["counts"]["x"]["medium"] == 0
    status, model = world.run("out", *command, "--k", "5", "--hard-above", "4")
    assert status == 0 and sorted(model.asked) == [("Q4?", 3), ("Q5?", 3), ("Q5?", 4)]


def test_failed_searches_are_played_again(world, command, capsys):
    facts = passages("a fact")
    world.retriever = FakeRetriever((facts, RetrieverUnavailable("down"), facts))
    assert world.run("out", *command)[0] == 3
    assert "searches failed for 1 questions" in capsys.readouterr().err
    status, model = world.run("out", *command)
    assert status == 0 and len({question for question, _ in model.asked}) == 1
    world.retriever = FakeRetriever((facts,))
    world.run("whole", *command)
    assert world.texts("out") == world.texts("whole")


def test_a_full_disk_is_one_line(world, command, capsys):
    out = world.folder / "out"
    out.mkdir()
    (out / "selection.json").write_text("{}")
    (out / "rollouts.jsonl").symlink_to("/dev/full")
    assert world.run("out", *command)[0] == 3
    error = capsys.readouterr().err
    assert "cannot write" in error and "same command" in error and error.count("\n") == 1


def test_rollouts_of_another_selection_are_refused(world, command, capsys):
    world.run("out", *command)
    assert world.run("out", *command, "--temperature", "0.5")[0] == 2
    assert "decodings sampled" in capsys.readouterr().err
    (world.folder / "thesis").mkdir()
    (world.folder / "thesis" / "a.tex").touch()
    assert world.run("thesis", *command)[0] == 2 and "holds no selection" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--k", "2"], "give at least --k 3"),
        (["--easy-below", "4"], "bounds must keep"),
        (["--closed-book-k", "-1"], "--closed-book-k"),
        (["--temperature", "0"], "--temperature: must be a number above 0"),
        (["--metric", "none"], "unknown metric"),
        (["--right-from", "0"], "right from"),
        (["--recipe", "none"], "unknown recipe"),
        (["--closed-book", "tiny.stage2"], "searches"),
        (["--stage1", "medium=3"], "SOURCE:CLASS=COUNT"),
        (["--data", "nowhere.jsonl"], "dataset not found"),
        (["--from-manifest", "nowhere.json"], "cannot read"),
        (["--concurrency", "0"], "--concurrency"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(world, command, capsys, more, said):
    assert world.run("out", *command, *more)[0] == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not (world.folder / "out").exists()


def test_the_model_may_be_behind_an_endpoint(command):
    there = [*command, "--out", "out", "--endpoint", "http://127.0.0.1:9"]
    served = [*there, "--tokenizer", "t"]
    options, _ = parse([*served, "--endpoint-text"], None)
    config = EndpointConfig("http://127.0.0.1:9", "toy", timeout=300.0, retry=RetryPolicy.of_timeout(300.0))
    assert model_of(options) == ServedModel(config, "t", True)
    assert concurrency_of(options) == 64
    assert {"endpoint", "engines", "device"}.isdisjoint(recorded(options))
    for words, said in ((there, "--endpoint needs --tokenizer"), ([*served, "--engines", "2"], "has its own")):
        with pytest.raises(InputError, match=said):
            model_of(parse(words, None)[0])


def test_limits_are_those_of_every_command_and_recorded_where_given(command):
    there = [*command, "--out", "out"]
    plain, _ = parse(there, None)
    assert "turn_tokens" not in recorded(plain)
    options, _ = parse([*there, "--max-searches", "2", "--turn-tokens", "32"], None)
    assert recorded(options) == recorded(plain) | {"max_searches": 2, "turn_tokens": 32}
    limits, before = job_of(options).search.contestant.recipe.limits, job_of(plain).search.contestant.recipe.limits
    assert (limits.max_searches, limits.turn_tokens) == (2, 32) != (before.max_searches, before.turn_tokens)
    assert limits.max_length == before.max_length


def test_ids_must_be_unique_over_all_files(world, command, capsys):
    file = str(world.folder / "questions.jsonl")
    assert world.run("out", *command, "--data", file, file)[0] == 2
    assert "'id0'" in capsys.readouterr().err
