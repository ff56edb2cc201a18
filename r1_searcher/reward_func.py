"""The reward as OpenRLHF loads it from a file: `--reward.remote_url path/to/r1_searcher/reward_func.py`.

Which reward, under which protocol, is named by two environment variables, read once when OpenRLHF loads the
file, so that a wrong name stops the run before it starts. OpenRLHF only logs what `reward_func` raises
(at INFO; the sample then has no reward), so it is logged here as an error first.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from r1_searcher.recipe.protocols import find_protocol
from r1_searcher.reward.rewards import find_reward
from r1_searcher.run.reward_batch import score_batch

REWARD_VARIABLE = "R1_SEARCHER_REWARD"
PROTOCOL_VARIABLE = "R1_SEARCHER_PROTOCOL"
DEFAULT_REWARD = "r1_searcher.stage2"
DEFAULT_PROTOCOL = "r1_searcher.base"

logger = logging.getLogger(__name__)
_reward = find_reward(os.environ.get(REWARD_VARIABLE, DEFAULT_REWARD))
_protocol = find_protocol(os.environ.get(PROTOCOL_VARIABLE, DEFAULT_PROTOCOL))


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """OpenRLHF's reply, from `score_batch`."""
    try:
        return score_batch(queries, prompts, labels, _reward, _protocol)
    except Exception as error:
        logger.error("reward %s failed: %s", _reward.name, error)
        raise
