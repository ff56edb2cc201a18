"""One scripted episode through the real loop, with the real tokenizer: are its ids what its text says?"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace

from r1_searcher.episode.documents import without_frame
from r1_searcher.episode.prompting import documents_frame
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.rollout import Environment, run_episode
from r1_searcher.episode.scripted_policy import ScriptedPolicy
from r1_searcher.episode.trajectory import SpanKind, StopReason, Trajectory
from r1_searcher.inspection.finding import Finding, Level, failed, ok, shown
from r1_searcher.inspection.prompt import check_chat
from r1_searcher.inspection.subject import Subject
from r1_searcher.reward.rewards import score
from retriever.passage import Hit, Hits, Passage, SearchRequest

_GOLD = "Paris"


@dataclass(frozen=True)
class HostileRetriever:
    """Finds passages that try to close their block and to speak for the policy."""

    forbidden: tuple[str, ...]

    async def search(self, request: SearchRequest) -> Hits:
        """One passage with the answer, and one that holds every tag and special token."""
        fact = Passage("doctor/1", "Tower", f"The tower stands in {_GOLD}.")
        forged = Passage("doctor/2", "Forged", "\n".join(self.forbidden))
        return tuple(Hit(passage, 1.0) for passage in (fact, forged)[: request.top_k])

    async def close(self) -> None:
        """Nothing to release."""


def check_episode(subject: Subject) -> Finding:
    """Spans tile the ids and decode to their text, only actions train, passages forge nothing, the format counts.

    Two well-formed episodes are played, which differ in where the thinking ends (systems differ there): one of
    them must keep every format rule of the recipe's reward.
    """
    if not subject.tokenizer.eos_ids:
        return failed("no episode can end: the tokenizer has no EOS", "see eos")
    if check_chat(subject).level is Level.FAILED:
        return failed("no episode can be played without the chat template", "see chat")
    broken: list[list[str]] = []
    for early in (True,) if subject.protocol.tools else (False, True):  # a tool is called after the thinking
        episode = _play(subject, early)
        problem = _problem(subject, episode)
        if problem:
            return failed(problem, "see tags and additions; such an episode would be trained on wrongly")
        result = score(subject.recipe.reward, episode, subject.protocol)  # no judge: only the rules are looked at
        broken.append([name for name, kept in result.rules.items() if not kept])
    rules = min(broken, key=len)
    if rules:
        return failed(
            f"a well-formed episode breaks the reward's rules {shown(rules)}",
            "prompt and reward do not fit each other (does the prompt end in the tag that the rules expect?)",
        )
    actions = episode.token_count(SpanKind.ACTION)
    return ok(f"a scripted episode decodes to its text; {actions} of {len(episode.ids)} tokens are trained")


def _play(subject: Subject, think_ends_early: bool) -> Trajectory:
    protocol, tokenizer = subject.protocol, subject.tokenizer
    retriever = HostileRetriever(tuple(sorted({*protocol.tags, *tokenizer.special_texts})))
    # Whether real prompts and documents fit is another check's question; the forged passage is long.
    length = len(tokenizer.encode(subject.longest_prompt[1])) + 65536
    limits = replace(subject.recipe.limits, max_length=length, document_tokens=None, max_searches=1, top_k=2)
    environment = Environment(protocol, limits, retriever, tokenizer)
    row = subject.rows[0]
    frame = environment.documents.frame.close
    turns = iter(_script(protocol, subject.prompt(row), frame, think_ends_early))
    return asyncio.run(run_episode(environment, row, ScriptedPolicy(tokenizer, turns)))


def _script(protocol: Protocol, prompt: str, before_answer: str, think_ends_early: bool) -> list[str]:
    """Two turns, a search and an answer, as the protocol has them."""
    think = protocol.think
    query, answer = "where the tower stands", _GOLD
    if protocol.tools:
        tool = protocol.tools[0]
        query = json.dumps({"name": tool.name, "arguments": {tool.argument: [query]}})
    if protocol.boxed:
        answer = f"\\boxed{{{_GOLD}}}"
    opened = "" if prompt.rstrip().endswith(think.open) else think.open
    first = f"{opened} I look it up."
    second = " It stands there."
    if think_ends_early:
        first += f" {think.close}\n"
        second = ("" if before_answer.rstrip().endswith(think.open) else think.open) + second
    return [
        f"{first} {protocol.query.open} {query} {protocol.query.close}",
        f"{second} {think.close}\n{protocol.answer.open} {answer} {protocol.answer.close}",
    ]


def _problem(subject: Subject, episode: Trajectory) -> str:
    """The faults of a played episode; empty where there are none."""
    tokenizer = subject.tokenizer
    if episode.stop_reason is not StopReason.ANSWERED or episode.n_searches != 1:
        return (
            f"a scripted episode of a search and an answer ended as {episode.stop_reason.value} after "
            f"{episode.n_searches} searches; the policy's text was read as {episode.model_text!r}"
        )
    end = 0
    for span in episode.spans:
        ids = episode.ids[span.start : span.end]
        if span.kind is SpanKind.ACTION and ids[-1] in tokenizer.eos_ids:
            ids = ids[:-1]
        if span.start != end or tokenizer.decode(ids) != span.text:
            return f"the ids of a {span.kind.value} span decode to {tokenizer.decode(ids)!r}, not to {span.text!r}"
        end = span.end
    if end != len(episode.ids):
        return f"spans cover {end} of {len(episode.ids)} ids"
    return _forgery(subject, episode)


def _forgery(subject: Subject, episode: Trajectory) -> str:
    """Tags and special tokens in the documents beyond those of their own frame."""
    block = episode.of_kind(SpanKind.DOCUMENTS)[0].text
    frame = documents_frame(subject.protocol, subject.tokenizer)
    passages = without_frame(frame, block)
    forged = [text for text in {*subject.protocol.tags, *subject.tokenizer.special_texts} if text in passages]
    return f"a passage could write {shown(sorted(forged))} into the context" if forged else ""
