"""Why micro-batches by tokens need ZeRO-3: what the installed DeepSpeed does with two backward calls before a step."""

from __future__ import annotations

import pytest
from support.processes.one_rank import printed_lines

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("stage", "adds_up"), [(2, False), (3, True)])
def test_gradients_of_several_backward_calls(stage: int, adds_up: bool):
    (line,) = printed_lines("two_backwards.py", str(stage), beginning="norms")
    both, last = map(float, line.split())
    assert (both > 5 * last) == adds_up and both >= last
