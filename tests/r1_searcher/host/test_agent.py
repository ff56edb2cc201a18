"""The OpenRLHF seam: the real executor, a real search service, and an engine that replays scripts."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.episodes.fakes import EOS, ByteTokenizer, ScriptedPolicy, ask, say

from r1_searcher.episode.policy import Finish
from r1_searcher.episode.question import QARow
from r1_searcher.episode.trajectory import SpanKind
from r1_searcher.episode.trajectory_json import from_mapping
from r1_searcher.own_agent.agents import OwnAgent
from r1_searcher.recipe.protocols import R1_SEARCHER_TINY
from r1_searcher.recipe.recipe import Recipe, find_recipe
from r1_searcher.recipe.schedule import Batches, Progress
from r1_searcher.reward.rewards import compose, find_reward
from r1_searcher.run.outage import ATTEMPTS
from r1_searcher.run.run_config import ENVIRONMENT_VARIABLE, RetrieverConfig, RunConfig
from retriever.passage import Hits, Passage

PASSAGES = [
    Passage("p1", "Tower", "The tower stands in Paris."),
    Passage("p2", "River", "The river is the Seine."),
]
READ_BY_THE_HOST = {
    "prompt",
    "label",
    "images",
    "mm_train_inputs",
    "observation_tokens",
    "action_ranges",
    "rollout_log_probs",
    "truncated",
    "reward",
    "scores",
    "extra_logs",
}
"""Keys that OpenRLHF's SamplesGenerator._process_response_into_experience reads, and those it may."""
RECIPE = dataclasses.replace(
    find_recipe("tiny.stage2"),
    limits=dataclasses.replace(find_recipe("tiny.stage2").limits, turn_tokens=80, max_length=700),
)
EPISODES = {
    "answered": [ask("tower"), say("Paris")],
    "no answer": ["hm"],
    "invalid": [ask("")],
    "nothing found": [ask("zzz"), say("x")],
    "too long": ["x" * 200],
    "too many searches": [ask("tower")] * 5,
    "bad format": [ask("river"), "<think>" + say("Paris")],
}


@pytest.fixture(scope="module")
def openrlhf():
    """The host's import is slow and needs the patches for a machine without CUDA; done once."""
    patch = pytest.MonkeyPatch()
    patch.setenv("R1_SEARCHER_CPU", "1")
    from r1_searcher.host import cpu

    cpu.install()
    yield pytest.importorskip("openrlhf.utils.agent")
    patch.undo()


class FlakyIndex:
    """A BM25 index that fails for queries holding a word of `broken`."""

    name = "flaky"

    def __init__(self) -> None:
        from retriever.index.bm25 import Bm25Index

        self._index = Bm25Index.build(PASSAGES)
        self.broken: set[str] = set()
        self.times = 0

    def __len__(self) -> int:
        return len(PASSAGES)

    def search(self, queries, top_k) -> list[Hits]:
        if self.broken & set(" ".join(queries).split()):
            self.times += 1
            raise RuntimeError("broken")
        return self._index.search(queries, top_k)


@pytest.fixture(scope="module")
def service():
    from werkzeug.serving import make_server

    from retriever.server.__main__ import create_app

    index = FlakyIndex()
    server = make_server("127.0.0.1", 0, create_app(index), threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield SimpleNamespace(index=index, url=f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    thread.join(5)


@pytest.fixture
def make_executor(openrlhf, service, tmp_path, monkeypatch):
    """Builds the executor as the host does: without arguments, from the environment."""
    made = []

    def make(recipe: Recipe = RECIPE, **changes):
        from r1_searcher.host.agent import AgentExecutor

        service.index.broken, service.index.times = set(), 0
        config = RunConfig(
            run_dir=str(tmp_path),
            recipe=recipe,
            retriever=RetrieverConfig(service.url, read_timeout=5.0, attempts=1, deadline=5.0, outage_seconds=5.0),
            **changes,
        )
        config.write(tmp_path / "run.json")
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "run.json"))
        made.append(AgentExecutor())
        made[-1].progress = progress_here(config)
        return made[-1]

    yield make
    for executor in made:
        executor.log.close()


def progress_here(config: RunConfig):
    """The run's count of questions with the actor's face, without Ray."""
    progress = Progress(
        Batches(config.questions_per_step, config.questions_per_pass),
        config.total_steps,
        config.recipe.switch,
        Path(config.run_dir) / "progress.jsonl",
        config.first_step,
    )

    async def begin():
        return progress.begin()

    async def end(episodes, *, kept):
        progress.end(episodes, kept=kept)

    return SimpleNamespace(begin=begin, end=end)


class HfTokenizer(ByteTokenizer):
    """The toy tokenizer with the face of a Hugging Face one."""

    def __init__(self) -> None:
        super().__init__(R1_SEARCHER_TINY.tags, R1_SEARCHER_TINY.tags)
        self.all_special_tokens = sorted(self.special_texts)
        self.added_tokens_decoder: dict = {}
        self.eos_token_id = 256

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": self.encode(text)}

    def decode(self, ids, **options):
        return super().decode(ids)

    def apply_chat_template(self, messages, tools=None, **options):
        return super().apply_chat_template(messages, tools or ())


class FakeEngine:
    """The host's engine for one episode: prompt ids and parameters in, a request's output out."""

    def __init__(self, turns) -> None:
        self.policy = ScriptedPolicy(HfTokenizer(), list(turns))

    async def generate(self, ids, params):
        if self.policy.asked and len(ids) == len(self.policy.asked[0].ids):  # the episode is played again
            self.policy.asked.clear()
        done = await self.policy.generate(ids, stops=params.stop, max_tokens=params.max_tokens)
        logprobs = [{t: SimpleNamespace(logprob=v)} for t, v in zip(done.ids, done.logprobs, strict=True)]
        stop = params.stop[0] if done.finish is Finish.STOP else None
        reason = "length" if done.finish is Finish.LENGTH else "stop"
        output = SimpleNamespace(
            token_ids=list(done.ids),
            finish_reason=reason,
            stop_reason=stop,
            logprobs=logprobs if params.logprobs is not None else None,
        )
        return SimpleNamespace(outputs=[output])


def row(n: object = 1) -> QARow:
    return QARow(f"row {n}", f"Question {n}?", ("Paris",))


def sampling(logprobs: int | None = 1):
    from vllm import SamplingParams

    return SamplingParams(temperature=1.0, max_tokens=None, min_tokens=1, logprobs=logprobs)


async def execute(executor, turns, n: object = 1, *, logprobs=1, engine=None, params=None):
    params = params or sampling(logprobs)
    return await executor.execute(
        prompt=f"prompt {n}",
        label=row(n).to_json(),
        sampling_params=params,
        max_length=10_000,
        hf_tokenizer=HfTokenizer(),
        llm_engine=engine or FakeEngine(turns),
        images=None,
    )


def run(executor, *scripts, **options):
    async def all_at_once():
        try:
            return await asyncio.gather(*(execute(executor, s, n, **options) for n, s in enumerate(scripts)))
        finally:
            await executor.retriever.close()

    return asyncio.run(all_at_once())


def logged(tmp_path: Path) -> list[dict]:
    (path,) = (tmp_path / "trajectories").glob("*.jsonl")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_it_is_what_the_host_looks_for(openrlhf):
    from r1_searcher.host import agent

    assert issubclass(agent.AgentExecutor, openrlhf.AgentExecutorBase)


def test_outside_a_run_it_says_so(openrlhf, monkeypatch):
    from foundation.errors import InputError
    from r1_searcher.host.agent import AgentExecutor

    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    with pytest.raises(InputError, match="R1_SEARCHER_RUN is not set"):
        AgentExecutor()


def test_the_response(make_executor, tmp_path):
    (response,) = run(make_executor(), EPISODES["answered"])
    assert set(response) == READ_BY_THE_HOST
    assert (response["prompt"], response["label"]) == ("prompt 0", row(0).to_json())
    (line,) = logged(tmp_path)
    trajectory = from_mapping(line)
    assert response["observation_tokens"] == list(trajectory.ids)
    assert response["action_ranges"] == trajectory.action_ranges and len(trajectory.action_ranges) == 2
    assert len(response["rollout_log_probs"]) == len(trajectory.ids)
    assert (response["truncated"], response["reward"], response["scores"]) == (False, 1.0, 1.0)
    text = HfTokenizer().decode(response["observation_tokens"])
    assert text.startswith("Question : Question 0?\n<think><|begin_of_query|>tower<|end_of_query|>\n\n")
    assert text.endswith(
        f"(1) The tower stands in Paris.\n<|end_of_documents|>\n\n</think> <answer>Paris</answer>{EOS}"
    )
    assert len(trajectory.of_kind(SpanKind.DOCUMENTS)) == 1


def test_without_logprobs(make_executor):
    (response,) = run(make_executor(), EPISODES["answered"], logprobs=None)
    assert response["rollout_log_probs"] is None


@pytest.mark.parametrize("reward", ["r1_searcher.stage1", "r1_searcher.stage2", "r1_searcher.llama_stage1_code"])
def test_every_kind_of_episode_logs_the_same_scalars(make_executor, service, reward):
    executor = make_executor(dataclasses.replace(RECIPE, reward=find_reward(reward)))
    responses = run(executor, *EPISODES.values())
    keys = {tuple(response["extra_logs"]) for response in responses}
    assert len(keys) == 1
    for response in responses:
        assert all(type(value) is float for value in response["extra_logs"].values())
        stops = [name for name, value in response["extra_logs"].items() if name.startswith("stop/") and value]
        assert len(stops) == 1
    truncated = dict(zip(EPISODES, (response["truncated"] for response in responses), strict=True))
    assert [name for name, value in truncated.items() if value] == ["too long"]


def test_concurrent_executions_share_nothing(make_executor, tmp_path):
    scripts = [[ask("tower")] * (n % 3) + [say(f"answer {n}")] for n in range(24)]
    responses = run(make_executor(), *scripts)
    for n, response in enumerate(responses):
        assert response["prompt"] == f"prompt {n}" and response["extra_logs"]["retrieval/searches"] == n % 3
        text = HfTokenizer().decode(response["observation_tokens"])
        assert f"Question {n}?" in text and text.endswith(f"<answer>answer {n}</answer>{EOS}")
    lines = logged(tmp_path)
    assert sorted(line["row"]["id"] for line in lines) == sorted(row(n).id for n in range(24))
    for line in lines:
        assert line["answer"] == f"answer {line['row']['id'].split()[1]}"


def test_steps_count_from_the_checkpoint(make_executor, tmp_path):
    executor = make_executor(first_step=10, questions_per_step=4, questions_per_pass=100)
    for questions in (4, 4, 1):
        run(executor, *[[say("x")]] * questions)
    assert sorted(line["step"] for line in logged(tmp_path)) == [11] * 4 + [12] * 4 + [13]
    assert {line["attempt"] for line in logged(tmp_path)} == {0}
    (path,) = (tmp_path / "trajectories").glob("*.jsonl")
    assert path.name.startswith("000010-")


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_log_may_hold_a_share_of_the_questions(make_executor, tmp_path, share):
    """What is handed to the host does not depend on it."""
    executor = make_executor(questions_per_step=24, questions_per_pass=24, logged_share=share)
    responses = run(executor, *[[say("Paris")]] * 24)
    assert {response["prompt"] for response in responses} == {f"prompt {n}" for n in range(24)}
    kept = {line["row"]["id"] for line in logged(tmp_path)}
    assert kept == {row(n).id for n in range(24) if executor.run.logs(1, row(n).id)}
    assert len(kept) == 24 if share == 1 else 4 < len(kept) < 20


def test_a_question_that_the_host_filters_out_does_not_end_a_step(make_executor, tmp_path):
    changes = {"questions_per_step": 2, "questions_per_pass": 100, "kept_rewards": (0.0, 1.0)}
    executor = make_executor(samples_per_question=2, **changes)

    async def questions():
        for answers in (("Paris", "Rome"), ("Paris", "Paris"), ("Rome", "Rome"), ("Paris", "Rome"), ("Paris", "Rome")):
            params = sampling()
            scripts = [[ask("tower"), say(answer)] for answer in answers]
            await asyncio.gather(*(execute(executor, script, params=params) for script in scripts))
        await executor.retriever.close()

    asyncio.run(questions())
    assert [line["step"] for line in logged(tmp_path)] == [1] * 8 + [2] * 2
    (note,) = (json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines())
    assert (note["step"], note["drawn"]) == (1, 4)


def poisoned(make_executor, service, recipe=RECIPE, **changes):
    """One question whose search always fails, beside good ones that keep coming."""
    executor = make_executor(recipe, **changes)
    service.index.broken = {"poison"}

    async def step():
        good = asyncio.create_task(stream(executor))
        response = await execute(executor, [ask("poison")], "bad")
        good.cancel()
        await asyncio.gather(good, return_exceptions=True)
        (fine,) = await asyncio.gather(execute(executor, EPISODES["answered"], "good"))
        await executor.retriever.close()
        return response, fine

    return asyncio.run(step())


async def stream(executor):
    while True:
        await execute(executor, EPISODES["answered"], "good")


def test_a_question_that_cannot_be_searched_is_handed_on_masked(make_executor, service, tmp_path):
    response, fine = poisoned(make_executor, service)
    assert response["action_ranges"] == [] and response["reward"] == response["scores"] == 0.0
    assert response["extra_logs"]["retrieval/failed_attempts"] == ATTEMPTS
    assert service.index.times >= ATTEMPTS, "the server may search a failed batch one by one"
    assert response["extra_logs"]["stop/retriever_error"] == 1.0
    assert tuple(response["extra_logs"]) == tuple(fine["extra_logs"])
    attempts = [line["attempt"] for line in logged(tmp_path) if line["row"]["id"] == "row bad"]
    assert attempts == list(range(ATTEMPTS))


def test_a_failed_sample_is_handed_the_mean_of_its_siblings(make_executor, service, tmp_path):
    executor = make_executor(samples_per_question=3)
    service.index.broken = {"poison"}

    async def question():
        params = sampling()  # one object for all samples of a question, as the host passes it
        scripts = [ask("poison")], EPISODES["answered"], [ask("tower"), say("London")]
        found = await asyncio.gather(*(execute(executor, script, params=params) for script in scripts))
        await executor.retriever.close()
        return found

    failed, right, wrong = asyncio.run(question())
    assert (right["reward"], wrong["reward"]) == (1.0, 0.0)
    assert failed["reward"] == failed["scores"] == 0.5 and failed["action_ranges"] == []
    assert len(executor.groups) == 0
    (line,) = [line for line in logged(tmp_path) if line["attempt"] == ATTEMPTS - 1]
    assert line["reward"]["total"] == 0.0, "the log has the episode's own reward"


def test_rewards_are_handed_on_the_grid(make_executor):
    executor = make_executor(dataclasses.replace(RECIPE, reward=compose("f1=1")))
    (response,) = run(executor, [ask("tower"), say("Paris in France")])
    assert response["reward"] == response["scores"] == 512 / 1024
    (response,) = run(
        make_executor(dataclasses.replace(RECIPE, reward=compose("f1=0.7"))), [ask("tower"), say("Paris, France")]
    )
    assert response["reward"] == round(0.7 * 2 / 3 * 1024) / 1024


def test_a_search_that_fails_once_is_played_again_and_counted(make_executor, service, tmp_path):
    executor = make_executor()
    service.index.broken = {"poison"}

    class Mends(FakeEngine):
        async def generate(self, ids, params):
            if service.index.times:
                service.index.broken = set()
            return await super().generate(ids, params)

    async def once():
        response = await execute(executor, [], engine=Mends([ask("poison tower"), say("Paris")]))
        await executor.retriever.close()
        return response

    response = asyncio.run(once())
    assert response["action_ranges"] and response["reward"] == 1.0
    assert response["extra_logs"]["retrieval/failed_attempts"] == 1.0
    assert [line["stop_reason"] for line in logged(tmp_path)] == ["retriever_error", "answered"]
    assert [line["attempt"] for line in logged(tmp_path)] == [0, 1]


def test_a_failed_episode_logs_the_keys_of_a_foreign_reward(make_executor, service, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "def reward_func(queries, prompts, labels):\n"
        "    return {'rewards': 0.5, 'scores': 0.5, 'extra_logs': {'reward/mine': 0.5}}\n"
    )
    response, fine = poisoned(make_executor, service, reward_url=str(path))
    assert fine["reward"] == 0.5
    assert set(response["extra_logs"]) == set(fine["extra_logs"]), "the host batches by the first sample's keys"


def test_the_ablation_trains_documents_too(make_executor):
    executor = make_executor(dataclasses.replace(RECIPE, train_on_documents=True))
    (response,) = run(executor, EPISODES["answered"])
    (first, *_, last) = response["action_ranges"]
    covered = {i for start, end in response["action_ranges"] for i in range(start, end)}
    assert covered == set(range(first[0], len(response["observation_tokens"]))) and last[1] == max(covered) + 1


AGENT = """
async def agent(question, settings):
    if question.startswith("Question 1"):
        raise ValueError("broken")
    client, messages = settings.openai(), [{"role": "user", "content": question}]
    reply = await client.chat.completions.create(model=settings.model, messages=messages)
    passages = await settings.search("tower")
    messages += [reply.choices[0].message.model_dump(exclude_none=True), {"role": "user", "content": passages[0].text}]
    reply = await client.chat.completions.create(model=settings.model, messages=messages)
    return reply.choices[0].message.content
"""


def test_a_users_own_agent_plays_in_place_of_the_loop(make_executor, tmp_path):
    """Its episodes reach the host like others: exact ranges, rewards, logs; nothing of a failed one is trained on."""
    (tmp_path / "own.py").write_text(AGENT)
    own = OwnAgent.of_function(f"{tmp_path / 'own.py'}:agent", 300.0)
    recipe = dataclasses.replace(find_recipe("own_agent"), agent=own, reward=compose("squad_f1=1,retrieved=0.5"))
    executor = make_executor(recipe)
    played, failed = run(executor, ["Let me see.", "Paris"], ["unused"])
    assert set(played) == READ_BY_THE_HOST
    first, second = played["action_ranges"]
    ids = played["observation_tokens"]
    assert HfTokenizer().decode(ids[slice(*first)]) == f"Let me see.{EOS}"
    assert HfTokenizer().decode(ids[slice(*second)]) == f"Paris{EOS}"
    assert (played["reward"], played["extra_logs"]["retrieval/rate"]) == (1.5, 1.0)
    assert (failed["action_ranges"], failed["reward"], failed["extra_logs"]["stop/agent_error"]) == ([], 0.0, 1.0)
    lines = {line["row"]["id"]: line for line in logged(tmp_path)}
    assert lines["row 1"]["error"] == "ValueError: broken" and "error" not in lines["row 0"]
    assert from_mapping(lines["row 1"]).error == "ValueError: broken"
    assert RunConfig.read(tmp_path / "run.json").recipe.agent == own
