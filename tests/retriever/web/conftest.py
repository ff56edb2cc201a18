"""What the tests of web pages share."""

from __future__ import annotations

import pytest
from support.services.fake_web import KEY, KEY_VARIABLES


@pytest.fixture(scope="module")
def page_library() -> None:
    """Skips what reads pages where their library is not installed."""
    pytest.importorskip("trafilatura")


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name in KEY_VARIABLES:
        monkeypatch.setenv(name, KEY)
