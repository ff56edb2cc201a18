"""The drawn world that the tests of base models and demonstrations share."""

from __future__ import annotations

from random import Random

import pytest

from data_prep.tiny.facts import Question, World, draw_questions, draw_world
from data_prep.tiny.names import pool
from retriever.index.bm25 import Bm25Index


@pytest.fixture(scope="module")
def world() -> World:
    return draw_world(pool("evaluation"), Random(0))


@pytest.fixture(scope="module")
def index(world: World) -> Bm25Index:
    return Bm25Index.build(world.passages("evaluation"))


@pytest.fixture(scope="module")
def questions(world: World) -> list[Question]:
    return draw_questions(world, 40, Random(0))
