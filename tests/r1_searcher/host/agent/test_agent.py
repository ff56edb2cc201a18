"""The OpenRLHF seam: the real executor, a real search service, and an engine that replays scripts."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest
from support.episodes.executions import EPISODES, RECIPE, HfTokenizer, execute, logged, row, run, sampling
from support.episodes.fakes import EOS, ask, say

from r1_searcher.episode.trajectory import SpanKind
from r1_searcher.episode.trajectory_json import from_mapping
from r1_searcher.own_agent.agents import OwnAgent
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.reward.rewards import compose, find_reward
from r1_searcher.run.episode_log import RunAttempt
from r1_searcher.run.run_config import RUN_VARIABLE, QuestionFilter, RunConfig

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


def test_it_is_what_the_host_looks_for(openrlhf):
    from r1_searcher.host import agent

    assert issubclass(agent.AgentExecutor, openrlhf.AgentExecutorBase)


def test_outside_a_run_it_says_so(openrlhf, monkeypatch):
    from foundation.errors import InputError
    from r1_searcher.host.agent import AgentExecutor

    monkeypatch.delenv(RUN_VARIABLE, raising=False)
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
    executor = make_executor(first_step=10, earlier_attempts=(0,), questions_per_step=4, questions_per_pass=100)
    for questions in (4, 4, 1):
        run(executor, *[[say("x")]] * questions)
    assert sorted(line["step"] for line in logged(tmp_path)) == [11] * 4 + [12] * 4 + [13]
    assert {line["attempt"] for line in logged(tmp_path)} == {0}
    (path,) = (tmp_path / "trajectories").glob("*.jsonl")
    assert RunAttempt.of(path) == RunAttempt(2, 10)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_log_may_hold_a_share_of_the_questions(make_executor, tmp_path, share):
    """What is handed to the host does not depend on it."""
    executor = make_executor(questions_per_step=24, questions_per_pass=24, logged_share=share)
    responses = run(executor, *[[say("Paris")]] * 24)
    assert {response["prompt"] for response in responses} == {f"prompt {n}" for n in range(24)}
    kept = {line["row"]["id"] for line in logged(tmp_path)}
    assert kept == {row(n).id for n in range(24) if executor.run.logs(1, row(n).id)}
    assert len(kept) == 24 if share == 1 else 4 < len(kept) < 20


@pytest.mark.parametrize(
    ("question_filter", "scores"),
    [
        (QuestionFilter((0.0, 1.0)), [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
        (QuestionFilter(), [[0.5, 0.5], [0.0, 0.0], [0.0, 0.0], [0.5, 0.5], [0.5, 0.5]]),
    ],
    ids=["by the mean", "by differences"],
)
def test_a_question_that_the_host_filters_out_does_not_end_a_step(make_executor, tmp_path, question_filter, scores):
    changes = {"questions_per_step": 2, "questions_per_pass": 100, "question_filter": question_filter}
    executor = make_executor(samples_per_question=2, **changes)
    responses = []

    async def questions():
        for answers in (("Paris", "Rome"), ("Paris", "Paris"), ("Rome", "Rome"), ("Paris", "Rome"), ("Paris", "Rome")):
            params = sampling()
            scripts = [[ask("tower"), say(answer)] for answer in answers]
            responses.append(await asyncio.gather(*(execute(executor, script, params=params) for script in scripts)))
        await executor.retriever.close()

    asyncio.run(questions())
    assert [[response["scores"] for response in question] for question in responses] == scores
    assert [response["reward"] for response in responses[0]] == [1.0, 0.0]
    assert [line["step"] for line in logged(tmp_path)] == [1] * 8 + [2] * 2
    (note,) = (json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines())
    assert (note["step"], note["drawn"]) == (1, 4)


def test_a_failed_search_is_no_difference(make_executor):
    """The failed sample gets its sibling's reward, and the question teaches nothing."""
    executor = make_executor(samples_per_question=2, question_filter=QuestionFilter())

    async def question():
        params = sampling()
        group = executor.groups.of(params)
        executor.groups.end(group, None)
        response = await execute(executor, [ask("tower"), say("Paris")], params=params)
        await executor.retriever.close()
        return response

    response = asyncio.run(question())
    assert (response["reward"], response["scores"]) == (1.0, 0.0)


def test_rewards_are_handed_on_the_grid(make_executor):
    executor = make_executor(dataclasses.replace(RECIPE, reward=compose("f1=1")))
    (response,) = run(executor, [ask("tower"), say("Paris in France")])
    assert response["reward"] == response["scores"] == 512 / 1024
    (response,) = run(
        make_executor(dataclasses.replace(RECIPE, reward=compose("f1=0.7"))), [ask("tower"), say("Paris, France")]
    )
    assert response["reward"] == round(0.7 * 2 / 3 * 1024) / 1024


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
