"""A language model as judge: is this answer right? For evaluation and for rewards.

Any OpenAI-compatible endpoint serves. A question that cannot be judged is typed as such and never counts as wrong.
Verdicts are kept on disk as they come, so that nothing is asked, or paid, twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from foundation.chat.endpoint import ChatReply
from foundation.errors import BadResponse, InputError, OutsideFailure, Rejected, TimedOut
from foundation.json_lines import JsonLines, read_finished
from foundation.loops import AskedOnce
from r1_searcher.reward.metrics import counted_words
from r1_searcher.reward.verdict_text import parse_verdict

PROMPT = """You check the answer to a question against the reference answers.
It is correct when it names the same thing as one of them; spelling, length and extra words do not matter.
It is incorrect when it names something else, contradicts all references, or gives several things to choose from.

Question: {question}
Reference answers: {golds}
Answer to check: {found}

Reply with one word: True if it is correct, False if it is not."""
"""The judge's whole instruction; a part of every key of the cache, so a changed prompt asks anew."""
MAX_JUDGED_WORDS = 100
MAX_JUDGED_CHARS = 1000
"""Of an answer that a reward asks about: ten times what R1-Searcher allows an answer, in languages without spaces too.
An evaluation, which nobody games, asks about every answer."""


class Unjudged(str, Enum):
    """Why a question has no verdict."""

    ERROR = "error"
    """The endpoint could not be reached, kept failing, or refuses every case."""
    REJECTED = "rejected"
    """The endpoint refused this case, such as an answer longer than its context, or its reply held no text."""
    TIMEOUT = "timeout"
    """The endpoint did not answer in time."""
    NONSENSE = "nonsense"
    """The endpoint answered, but neither True nor False."""

    @property
    def is_the_answers_doing(self) -> bool:
        """Whether another answer would have had a verdict; a reward must not pay for this one."""
        return self in (Unjudged.REJECTED, Unjudged.NONSENSE)


@dataclass(frozen=True)
class Case:
    """The case to judge."""

    question: str
    golds: tuple[str, ...]
    found: str

    @property
    def is_too_long(self) -> bool:
        """Whether the answer is no answer but a list or a treatise, which is wrong without asking."""
        return len(self.found) > MAX_JUDGED_CHARS or counted_words(self.found) > MAX_JUDGED_WORDS

    @property
    def message(self) -> str:
        """The instruction of this case."""
        golds = json.dumps(list(self.golds), ensure_ascii=False)
        return PROMPT.format(question=self.question, golds=golds, found=json.dumps(self.found, ensure_ascii=False))


@dataclass(frozen=True)
class Verdict:
    """The judge's verdict on one case, and its cost."""

    correct: bool | None
    """None: see `unjudged`."""
    unjudged: Unjudged | None = None
    reply: str = ""
    """The judge's own words, or the failure's."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 0
    """Sent for it, failed ones included."""
    status: int | None = None
    """HTTP status of a failure that had one."""

    @property
    def is_said(self) -> bool:
        """Whether these are the judge's words; else the endpoint failed."""
        return self.unjudged not in (Unjudged.ERROR, Unjudged.TIMEOUT, Unjudged.REJECTED)


@dataclass(frozen=True)
class KeptVerdict:
    """One line of a cache's file."""

    key: str
    case: Case
    verdict: Verdict


class VerdictCache:
    """What judges said, by key, in a file of JSON lines that only grows.

    An endpoint's failures are not kept: a right key, another address or a better hour may help.
    """

    def __init__(self, path: Path, *, earlier: Iterable[Path] = (), keep_unjudged: bool = True) -> None:
        """Read what is there, an incomplete last line left out.

        Args:
            path: The file that grows.
            earlier: Files of other caches, of which only what they hold now is read.
            keep_unjudged: Whether cases to which the judge said neither True nor False count as answered; if not,
                they are asked again.
        """
        kept_before = chain.from_iterable(map(read_verdicts, (*earlier, path)))
        self._verdicts = {kept.key: kept.verdict for kept in kept_before if kept.verdict.is_said}
        if not keep_unjudged:
            self._verdicts = {key: found for key, found in self._verdicts.items() if found.unjudged is None}
        self._path = path
        self._log: JsonLines | None = None  # opened when there is something to keep

    def get(self, key: str) -> Verdict | None:
        """The verdict, where there is one."""
        return self._verdicts.get(key)

    def put(self, key: str, case: Case, verdict: Verdict) -> None:
        """Keep what the judge said; it outlives this process when this returns (a power cut may take the last seconds).

        Raises:
            InputError, RunAborted: the file cannot be written.
        """
        if not verdict.is_said:
            return
        if self._log is None:
            self._log = JsonLines(self._path)
        self._log.append(asdict(KeptVerdict(key, case, verdict)))
        self._verdicts[key] = verdict

    def close(self) -> None:
        """Close the file."""
        if self._log is not None:
            self._log.close()


def read_verdicts(path: Path) -> Iterator[KeptVerdict]:
    """Every line of a cache, later ones replacing earlier ones of their key; none without a file."""
    if not path.is_file():
        return
    for row in read_finished(path):
        with contextlib.suppress(msgspec.ValidationError):  # of another version; the case is asked again
            yield msgspec.convert(row, KeptVerdict)


class ChatModel(typing.Protocol):
    """The judge's model: `foundation.chat.endpoint.OpenAIEndpoint`."""

    async def chat(self, messages: Sequence[Mapping[str, str]], **parameters: Any) -> ChatReply:
        """One answer. Raises OutsideFailure."""


@dataclass(frozen=True)
class Sampling:
    """How the judge is sampled."""

    temperature: float = 0.0
    max_tokens: int = 512
    """One word is asked for; models that think before they answer need room."""


class Judge:
    """Judges cases, each one once, at most `concurrency` at a time."""

    def __init__(
        self, model: ChatModel, name: str, cache: VerdictCache, sampling: Sampling | None = None, concurrency: int = 16
    ) -> None:
        """`name`, of the model, is a part of the cache's keys: another model gives other verdicts."""
        self._model = model
        self._name = name
        self._cache = cache
        self._sampling = sampling or Sampling()
        self._turns = asyncio.Semaphore(concurrency)
        self._once: AskedOnce[Verdict] = AskedOnce()
        self.asked: list[Verdict] = []
        """Verdicts that were not in the cache: what this judge has cost."""

    def key(self, case: Case) -> str:
        """A hash of everything that a verdict depends on."""
        parts = [self._name, self._sampling.temperature, self._sampling.max_tokens, case.message]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def knows(self, case: Case) -> bool:
        """Whether the verdict is in the cache."""
        return self._cache.get(self.key(case)) is not None

    async def judge(self, case: Case) -> Verdict:
        """The verdict, from the cache where it is known; equal cases under way are asked once."""
        key = self.key(case)
        known = self._cache.get(key)
        if known is not None:
            return known
        return await self._once.ask(key, lambda: self._ask(key, case))

    async def _ask(self, key: str, case: Case) -> Verdict:
        async with self._turns:
            verdict = await verdict_of(self._model, case, self._sampling)
        self._cache.put(key, case, verdict)
        self.asked.append(replace(verdict, reply=""))  # a long run's words would fill its memory
        return verdict


async def verdict_of(model: ChatModel, case: Case, sampling: Sampling | None = None) -> Verdict:
    """The model's verdict on a case; a failure of its endpoint is one without."""
    try:
        reply = await model.chat([{"role": "user", "content": case.message}], **asdict(sampling or Sampling()))
    except OutsideFailure as error:
        return Verdict(None, _reason(error), str(error), requests=error.attempts, status=error.status)
    correct = parse_verdict(reply.text)
    return Verdict(
        correct=correct,
        unjudged=Unjudged.NONSENSE if correct is None else None,
        reply=reply.text,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        requests=reply.attempts,
    )


_REFUSES_ALL = (401, 402, 403, 404)
"""Statuses of a wrong key, an empty account, a wrong address or model: the next question would get the same."""


def _reason(error: OutsideFailure) -> Unjudged:
    if isinstance(error, TimedOut):
        return Unjudged.TIMEOUT
    of_this_case = isinstance(error, (Rejected, BadResponse)) and error.status not in _REFUSES_ALL
    return Unjudged.REJECTED if of_this_case else Unjudged.ERROR


async def ask_first(judge: Judge, cases: Sequence[Case]) -> dict[Case, Verdict]:
    """The verdict on the first case that is not known yet, before all of them are sent; empty where all are known.

    Raises:
        InputError: the endpoint refuses it in a way that it would refuse every other.
    """
    for case in cases:
        if not judge.knows(case):
            verdict = await judge.judge(case)
            if verdict.status in _REFUSES_ALL:
                raise InputError(f"the judge cannot be asked: {verdict.reply}; check address, model and key")
            return {case: verdict}
    return {}


def explain_unjudged(verdicts: Sequence[Verdict]) -> str:
    """How many have no verdict and why, in one line; empty where all have one.

    Raises:
        OutsideFailure: none has one.
    """
    failures = [verdict for verdict in verdicts if verdict.unjudged is not None]
    if not failures:
        return ""
    first = failures[0]
    said = f"the judge said neither True nor False but {first.reply[:200]!r}" if first.is_said else first.reply
    if len(failures) == len(verdicts):
        raise OutsideFailure(f"none of {len(verdicts)} questions was judged: {said}")
    return f"{len(failures)} of {len(verdicts)} questions have no verdict; the first: {said}"
