"""The table of everything that the doctor looks at."""

from __future__ import annotations

from r1_searcher.doctor import memory, versions
from r1_searcher.doctor.service import check_search
from r1_searcher.inspection.checks import MODEL_CHECKS, Check
from r1_searcher.inspection.finding import Finding
from r1_searcher.inspection.subject import Subject


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
    *MODEL_CHECKS,
    Check("retriever", check_search),
    Check("memory", _memory),
)
"""In the order of the report; what stops everything comes first."""

ENGINE = Check("engine", _engine)
"""Only where it is asked for: it starts vLLM."""
