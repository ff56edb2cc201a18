"""Advisories of pinned packages: what is known is told, and without the network nothing fails."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from support.services.fake_endpoint import Answer, serve

ROOT = Path(__file__).resolve().parents[2]
ADVISORY = {
    "id": "GHSA-xxxx",
    "aliases": ["CVE-2030-1"],
    "summary": "a hole",
    "affected": [
        {
            "package": {"name": "waitress", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}],
        }
    ],
}
LOCK = f"waitress==3.0.2 --hash=sha256:{'0' * 64}\nflask==3.1.2 --hash=sha256:{'0' * 64}\n"


@pytest.fixture(scope="module")
def audit():
    pytest.importorskip("pip_audit")
    spec = importlib.util.spec_from_file_location("audit", ROOT / "train_scripts" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def lock(tmp_path) -> str:
    (tmp_path / "lock.txt").write_text(LOCK)
    return str(tmp_path / "lock.txt")


def test_what_is_known_is_told_and_only_a_warning_where_that_is_asked_for(audit, lock, capsys):
    def script(request, seen: int) -> Answer:
        return Answer({"vulns": [ADVISORY]} if request["package"]["name"] == "waitress" else {})

    with serve(script) as database:
        assert audit.main([lock, "--osv-url", database.url]) == 1
        assert audit.main([lock, "--osv-url", database.url, "--warn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == 2 * ["audit: waitress 3.0.2: GHSA-xxxx CVE-2030-1, fixed in 9.9"] or lines == 2 * [
        "audit: waitress 3.0.2: CVE-2030-1 GHSA-xxxx, fixed in 9.9"
    ]
    assert {request["package"]["name"] for request in database.requests} == {"waitress", "flask"}


def test_without_the_network_nothing_fails(audit, lock, capsys):
    assert audit.main([lock, "--osv-url", "http://127.0.0.1:9"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("audit: not asked (") and captured.err.count("\n") == 1
