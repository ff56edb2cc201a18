"""Scripted stand-ins for what surrounds an episode: a policy, a retriever, toy tokenizers.

The loop under test is the real one; these replace the language model, the search service and the vocabulary.
"""

from __future__ import annotations

import asyncio
import json
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jinja2

from r1_searcher.episode.limits import Limits
from r1_searcher.episode.policy import Completion, Finish
from r1_searcher.episode.protocol import Protocol
from r1_searcher.episode.question import QARow
from r1_searcher.episode.rollout import Environment, run_episode
from r1_searcher.episode.tokenization import Tokenizer
from r1_searcher.episode.trajectory import SpanKind, Trajectory
from r1_searcher.recipe.protocols import R1_SEARCHER_TINY
from retriever.passage import Hit, Hits, Passage, SearchRequest

EOS = "<|endoftext|>"
ROW = QARow(id="q1", question="Where is the tower?", answers=("Paris",), source="toy")
ROOMY = Limits(max_searches=8, turn_tokens=512, max_length=8192, top_k=3, answer_tokens=64)
ACTION, DOCUMENTS, FEEDBACK, PROMPT = SpanKind.ACTION, SpanKind.DOCUMENTS, SpanKind.FEEDBACK, SpanKind.PROMPT
BLOCK = "\n\n<|begin_of_documents|>\n{}<|end_of_documents|>\n\n"


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)

_BYTES = {token: bytes([token]) for token in range(256)}


@cache
def _compiled(template: str) -> jinja2.Template:
    """Compiling takes longer than an episode of scripted turns."""
    return jinja2.Template(template, keep_trailing_newline=True)


class ByteTokenizer:
    """One token per UTF-8 byte (id = byte), and one per piece: EOS is 256, `pieces` follow in order.

    Args:
        pieces: longer tokens; where several match, the longest.
        special: those of the pieces that count as special tokens besides EOS.
        eos: text of the EOS.
        template: a chat template in Jinja; without one, plain ChatML that knows no tools.
    """

    def __init__(
        self, pieces: Sequence[str] = (), special: Sequence[str] = (), eos: str = EOS, template: str = CHATML
    ) -> None:
        self.pieces = (eos, *pieces)
        self.eos_texts = frozenset({eos})
        self._special = frozenset({eos, *special})
        self._template = _compiled(template)
        longest_first = sorted(self.pieces, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        self._ids = {piece: 256 + place for place, piece in enumerate(self.pieces)}
        self._bytes = {**_BYTES, **{token: piece.encode() for piece, token in self._ids.items()}}
        self.encoded: list[str] = []

    def encode(self, text: str) -> list[int]:
        self.encoded.append(text)
        ids: list[int] = []
        for part in self._split.split(text):
            ids += [self._ids[part]] if part in self._ids else part.encode()
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        # Ids beyond the vocabulary are real: models pad their output layer.
        return b"".join([self._bytes.get(token, b"") for token in ids]).decode("utf-8", "replace")

    def apply_chat_template(self, messages: Sequence[dict[str, str]], tools: Sequence[dict[str, Any]] = ()) -> str:
        return self._template.render(messages=messages, tools=tools, add_generation_prompt=True)

    @property
    def eos_ids(self) -> frozenset[int]:
        return frozenset({256})

    @property
    def special_texts(self) -> frozenset[str]:
        return self._special

    beginning = ""


def tag_tokenizer(protocol: Protocol = R1_SEARCHER_TINY) -> ByteTokenizer:
    """Every tag of the protocol is one special token."""
    return ByteTokenizer(protocol.tags, protocol.tags)


def overshooting_tokenizer(protocol: Protocol = R1_SEARCHER_TINY) -> ByteTokenizer:
    """The token that completes the query's closing tag carries a newline and a letter beyond it."""
    return ByteTokenizer([protocol.query.close[-2:] + "\nX"])


@dataclass(frozen=True)
class Turn:
    """What the policy would write, were it not stopped: text (or ids), then EOS unless it rambles on."""

    text: str = ""
    ids: tuple[int, ...] | None = None
    rambles: bool = False


@dataclass(frozen=True)
class Asked:
    """One request to the policy."""

    ids: tuple[int, ...]
    stops: tuple[str, ...]
    max_tokens: int


@dataclass
class ScriptedPolicy:
    """Replays turns as an engine would give them: cut at the budget, at a stop string, at EOS.

    Tokens are emitted one by one until the decoded text holds a stop string, so the last one may run past it.
    Log-probs tell the id and the turn, so that a wrong alignment shows.
    """

    tokenizer: Tokenizer
    turns: Sequence[str | Turn]
    with_logprobs: bool = True
    asked: list[Asked] = field(default_factory=list)
    sampled: list[tuple[int, ...]] = field(default_factory=list)

    async def generate(self, ids: Sequence[int], *, stops: Sequence[str], max_tokens: int) -> Completion:
        assert max_tokens >= 1, "an engine refuses an empty budget"
        script = self.turns[len(self.asked)]
        self.asked.append(Asked(tuple(ids), tuple(stops), max_tokens))
        await asyncio.sleep(0)
        turn = Turn(script) if isinstance(script, str) else script
        written, finish = self._cut(self._wanted(turn, max_tokens), stops, max_tokens)
        self.sampled.append(written)
        logprobs = tuple(logprob_of(token, len(self.sampled)) for token in written)
        return Completion(written, finish, logprobs if self.with_logprobs else None)

    def _wanted(self, turn: Turn, max_tokens: int) -> list[int]:
        ids = list(turn.ids) if turn.ids is not None else self.tokenizer.encode(turn.text)
        filler = self.tokenizer.encode("x")[-1:]
        return ids + (filler * max_tokens if turn.rambles else [min(self.tokenizer.eos_ids)])

    def _cut(self, ids: list[int], stops: Sequence[str], max_tokens: int) -> tuple[tuple[int, ...], Finish]:
        ends = [place for place, token in enumerate(ids[:max_tokens]) if token in self.tokenizer.eos_ids]
        most = ends[0] if ends else min(len(ids), max_tokens)
        # A text that holds a stop string holds it however it goes on.
        end = bisect_left(range(most + 1), True, key=lambda end: self._stopped(ids[:end], stops))
        if end <= most:
            return tuple(ids[:end]), Finish.STOP
        return (tuple(ids[: most + 1]), Finish.EOS) if ends else (tuple(ids[:max_tokens]), Finish.LENGTH)

    def _stopped(self, ids: Sequence[int], stops: Sequence[str]) -> bool:
        text = self.tokenizer.decode(ids)
        return any(stop in text for stop in stops)


def logprob_of(token: int, turn: int) -> float:
    """The log-prob that `ScriptedPolicy` gives a token in its n-th turn (from 1)."""
    return -float(token % 1000 + 1) / 1000 - turn


Result = Sequence[Passage] | Exception | Callable[[SearchRequest], Sequence[Passage]]


@dataclass
class FakeRetriever:
    """Answers search n with result n, the last one for ever; an exception is raised, a function is called."""

    results: Sequence[Result] = ((),)
    latency: float = 0.0
    requests: list[SearchRequest] = field(default_factory=list)
    closed: int = 0

    async def search(self, request: SearchRequest) -> Hits:
        result = self.results[min(len(self.requests), len(self.results) - 1)]
        self.requests.append(request)
        await asyncio.sleep(self.latency)
        if isinstance(result, Exception):
            raise result
        passages = result(request) if callable(result) else result
        return tuple(Hit(passage, 1.0 / rank) for rank, passage in enumerate(passages, start=1))

    async def close(self) -> None:
        self.closed += 1


def passages(*texts: str) -> list[Passage]:
    """Passages `p1`, `p2`, … with titles `T1`, `T2`, …"""
    return [Passage(f"p{n}", f"T{n}", text) for n, text in enumerate(texts, start=1)]


@dataclass(frozen=True)
class Played:
    """A finished episode and what took part in it."""

    trajectory: Trajectory
    policy: ScriptedPolicy
    retriever: FakeRetriever
    environment: Environment

    @property
    def kinds(self) -> list[SpanKind]:
        return [span.kind for span in self.trajectory.spans]

    def texts(self, kind: SpanKind) -> list[str]:
        return [span.text for span in self.trajectory.of_kind(kind)]


def play(
    turns: Sequence[str | Turn],
    *results: Result,
    protocol: Protocol = R1_SEARCHER_TINY,
    limits: Limits = ROOMY,
    tokenizer: Tokenizer | None = None,
    row: QARow = ROW,
    with_logprobs: bool = True,
    pages: Sequence[Result] = ((),),
) -> Played:
    """One episode of the real loop over scripted turns, search results, and the pages of a browsing tool."""
    tokenizer = tokenizer or tag_tokenizer(protocol)
    policy = ScriptedPolicy(tokenizer, turns, with_logprobs)
    retriever = FakeRetriever(results or ((),))
    environment = Environment(protocol, limits, retriever, tokenizer, {"browse": FakeRetriever(pages)})
    return Played(asyncio.run(run_episode(environment, row, policy)), policy, retriever, environment)


def ask(query: str, thought: str = "") -> str:
    """A turn that searches, in R1-Searcher's tags."""
    return f"{thought}<|begin_of_query|>{query}<|end_of_query|>"


def say(answer: str, thought: str = "") -> str:
    """A turn that answers."""
    return f"{thought}</think> <answer>{answer}</answer>"


def turn_that_asks(protocol: Protocol, *queries: str, tool: int = 0) -> str:
    """A well-formed turn that searches, in the protocol's tags; with tools, all queries in one call."""
    written = queries[0]
    if protocol.tools:
        called = protocol.tools[tool]
        written = json.dumps({"name": called.name, "arguments": {called.argument: queries}}, ensure_ascii=False)
    # R1-Searcher searches inside its one thought, which the prompt opens; the others close theirs first.
    thought = "Hm." if _opens_thought(protocol) and not protocol.tools else _thought(protocol)
    return f"{thought}{protocol.query.open}{written}{protocol.query.close}"


def turn_that_answers(protocol: Protocol, answer: str) -> str:
    """A well-formed turn that answers, in the protocol's tags."""
    written = f"\\boxed{{{answer}}}" if protocol.boxed else answer
    return f"{_thought(protocol)}{protocol.answer.open}{written}{protocol.answer.close}"


def _thought(protocol: Protocol) -> str:
    return f"{'' if _opens_thought(protocol) else protocol.think.open}Hm.{protocol.think.close}"


def _opens_thought(protocol: Protocol) -> bool:
    return (protocol.prefill or protocol.prompt).endswith(protocol.think.open)


def check_invariants(played: Played) -> None:
    """What holds for every episode, whatever was written, found and allowed."""
    trajectory, policy, limits = played.trajectory, played.policy, played.environment.limits
    position = 0
    for span in trajectory.spans:
        assert span.start == position <= span.end, f"{span.kind} leaves a gap or overlaps"
        position = span.end
    assert position == len(trajectory.ids)
    actions = trajectory.of_kind(SpanKind.ACTION)
    assert [trajectory.ids[a.start : a.end] for a in actions] == policy.sampled
    assert trajectory.action_ranges == [(a.start, a.end) for a in actions]
    if policy.with_logprobs:
        expected = [0.0] * len(trajectory.ids)
        for turn, action in enumerate(actions, start=1):
            for place in range(action.start, action.end):
                expected[place] = logprob_of(trajectory.ids[place], turn)
        assert trajectory.logprobs == tuple(expected)
    else:
        assert trajectory.logprobs is None or not actions
    for place, asked in enumerate(policy.asked):
        assert asked.ids == trajectory.ids[: actions[place].start], "the policy saw something else than is recorded"
        assert 1 <= asked.max_tokens <= limits.turn_tokens
        assert len(asked.ids) + asked.max_tokens <= limits.max_length
    if trajectory.token_count(SpanKind.PROMPT) <= limits.max_length:
        assert len(trajectory.ids) <= limits.max_length
    _check_moves(played)
    _check_environment(played)


def _check_moves(played: Played) -> None:
    """Each turn but the first answers a search or a correction, of which there are no more than allowed."""
    trajectory, environment = played.trajectory, played.environment
    retrievers = (played.retriever, *environment.tools.values())
    assert sum(len(retriever.requests) for retriever in retrievers) == len(trajectory.searches)
    most = environment.limits.max_searches
    if most is not None:
        per_move = max((tool.max_items for tool in environment.protocol.tools), default=1)
        assert len(trajectory.of_kind(SpanKind.DOCUMENTS, SpanKind.FEEDBACK)) <= most
        assert len(played.policy.asked) <= most + 1
        assert len(trajectory.searches) <= most * per_move


def _check_environment(played: Played) -> None:
    """Whatever passages say, the environment writes the frame's tags, special tokens and EOS and no others."""
    trajectory, environment = played.trajectory, played.environment
    tokenizer, frame = environment.tokenizer, environment.documents.frame
    framed = tokenizer.encode(frame.open) + tokenizer.encode(frame.close)
    for block in trajectory.of_kind(SpanKind.DOCUMENTS):
        assert block.text.startswith(frame.open) and block.text.endswith(frame.close)
        for text in {*environment.protocol.tags, *tokenizer.special_texts}:
            assert block.text.count(text) == frame.open.count(text) + frame.close.count(text), f"{text} is forged"
        ids = trajectory.ids[block.start : block.end]
        assert sum(i in tokenizer.eos_ids for i in ids) == sum(i in tokenizer.eos_ids for i in framed)
        assert environment.limits.max_length - block.end >= environment.limits.answer_tokens
    for correction in trajectory.of_kind(SpanKind.FEEDBACK):
        assert correction.text == environment.protocol.feedback
        assert tokenizer.eos_ids.isdisjoint(trajectory.ids[correction.start : correction.end])
