"""The table of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from foundation.errors import InputError
from r1_searcher.doctor import memory, versions
from r1_searcher.doctor.episode import check_episode
from r1_searcher.doctor.finding import Finding, failed
from r1_searcher.doctor.prompt import check_answers, check_chat, check_length
from r1_searcher.doctor.service import check_retriever
from r1_searcher.doctor.subject import Subject
from r1_searcher.doctor.vocabulary import check_additions, check_eos, check_stops, check_tags


@dataclass(frozen=True)
class Check:
    """A named look at one thing."""

    name: str
    look: Callable[[Subject], Finding]


def _versions(_: Subject) -> Finding:
    installed = versions.Installed.read()
    return versions.check_versions(installed, versions.pins_of_this_project(installed))


def _memory(subject: Subject) -> Finding:
    return memory.check_memory(subject, memory.this_machine())


def _engine(subject: Subject) -> Finding:
    from r1_searcher.doctor.engine import check_engine  # imports vLLM's part of the core

    return check_engine(subject)


CHECKS = (
    Check("versions", _versions),
    Check("chat", check_chat),
    Check("tags", check_tags),
    Check("stops", check_stops),
    Check("eos", check_eos),
    Check("additions", check_additions),
    Check("length", check_length),
    Check("answers", check_answers),
    Check("episode", check_episode),
    Check("retriever", check_retriever),
    Check("memory", _memory),
)
"""In the order of the report; what stops everything comes first."""

ENGINE = Check("engine", _engine)
"""Only where it is asked for: it starts vLLM."""


def examine(subject: Subject, checks: tuple[Check, ...] = CHECKS) -> Iterator[tuple[str, Finding]]:
    """(name, finding) of every check, as they come."""
    for check in checks:
        try:
            yield check.name, check.look(subject)
        except InputError as error:  # what this check needs is broken itself, such as the chat template
            yield check.name, failed(str(error), "see the lines above")
