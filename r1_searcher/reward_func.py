"""The reward as OpenRLHF loads it from a file: `--reward.remote_url path/to/r1_searcher/reward_func.py`.

Which reward, under which protocol, and from which plugins, is named by environment variables (see
`r1_searcher.run.reward_batch`), read once when OpenRLHF loads the file, so that a wrong name stops the run before it
starts. OpenRLHF only logs what `reward_func` raises (at INFO; the sample then has no reward), so it is logged here as
an error first.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from r1_searcher.recipe.plugins import load_plugin
from r1_searcher.recipe.protocols import find_protocol
from r1_searcher.reward.rewards import find_reward
from r1_searcher.run.reward_batch import (
    PLUGINS_VARIABLE,
    PROTOCOL_VARIABLE,
    REWARD_VARIABLE,
    check_needs_no_judge,
    score_batch,
)

DEFAULT_REWARD = "r1_searcher.stage2"
DEFAULT_PROTOCOL = "r1_searcher.base"

logger = logging.getLogger(__name__)
for _plugin in filter(None, os.environ.get(PLUGINS_VARIABLE, "").split(os.pathsep)):
    load_plugin(_plugin)
_reward = find_reward(os.environ.get(REWARD_VARIABLE, DEFAULT_REWARD))
check_needs_no_judge(_reward)
_protocol = find_protocol(os.environ.get(PROTOCOL_VARIABLE, DEFAULT_PROTOCOL))


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """OpenRLHF's reply, from `score_batch`."""
    try:
        return score_batch(queries, prompts, labels, _reward, _protocol)
    except Exception as error:
        logger.error("reward %s failed: %s", _reward.name, error)
        raise
