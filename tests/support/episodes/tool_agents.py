"""Agents that call tools, over a small DeepResearcher: its tokenizer, its environment, and one that asks once."""

from __future__ import annotations

from pathlib import Path

from data_prep.tiny.dialects import TOOL_TEMPLATE
from r1_searcher.episode.rollout import Environment
from r1_searcher.recipe.protocols import find_protocol
from support.episodes.fakes import EOS, ROOMY, ByteTokenizer
from support.episodes.own_agents import environment_of

EXAMPLE = Path(__file__).resolve().parents[3] / "train_scripts" / "own_agent" / "search_agent.py"
PROTOCOL = find_protocol("deep_researcher.tiny")


def toy() -> ByteTokenizer:
    """A tokenizer with the protocol's tags and a template for tools."""
    return ByteTokenizer(PROTOCOL.tags, PROTOCOL.tags, template=TOOL_TEMPLATE.replace("eos_token", f"'{EOS}'"))


def here(*results, limits=ROOMY) -> Environment:
    return environment_of(toy(), *results, limits=limits, protocol=PROTOCOL)


def user(text: str) -> dict:
    return {"role": "user", "content": text}


async def asks_once(question, settings) -> str | None:
    reply = await settings.openai().chat.completions.create(model="policy", messages=[user(question)])
    return reply.choices[0].message.content
