"""How a policy of the tiny world writes in each system's tags: one row of `DIALECTS` per base model.

The content (whom to search for, what was read, how it goes wrong) is decided in `data_prep.tiny.demos` and is
the same for all; a dialect only puts it into words.
"""

from __future__ import annotations

from dataclasses import dataclass

from foundation.errors import found_in
from r1_searcher.episode.protocol import Protocol
from r1_searcher.recipe.protocols import find_protocol

EOS = "<|endoftext|>"

TEXT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'].capitalize() + ' : ' + message['content'] + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant : ' }}{% endif %}"
)
# The schemas of the tools are left out: to a model of this size they would be noise.
TOOL_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'tool' %}"
    "{{ '<tool_response>' + message['content'] + '</tool_response>\\n' }}"
    "{% else %}"
    "{{ message['role'].capitalize() + ' : ' + message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' }}"
    "{{ '\\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant :' }}{% endif %}"
)


@dataclass(frozen=True)
class Dialect:
    """The turns of one tag family.

    Templates hold `{said}` (what was just read: empty, or words that begin with a space), `{query}` and
    `{answer}`. The latter stand between spaces, because a name has its usual tokens only after one.
    """

    protocol: Protocol
    search: str
    """A turn that asks `{query}`."""
    ending: str
    """The last turn, well-formed."""
    bad_search: str
    """The only turn of an episode that wants to search and does not get there."""
    bad_endings: tuple[str, ...]
    """Malformed last turns, equally likely."""
    chat_template: str = TEXT_TEMPLATE
    also: tuple[str, ...] = ()
    """Further protocols whose exchange is the same to the byte: this base is theirs too."""

    @property
    def name(self) -> str:
        """The protocol's name."""
        return self.protocol.name

    def corrects(self, turn: str) -> bool:
        """Whether the environment answers this malformed turn, which ended in EOS, with a correction."""
        return bool(self.protocol.feedback) and turn.endswith(EOS)


def fill(template: str, *, said: str = "", query: str = "", answer: str = "") -> str:
    """The template with its fields replaced; every other brace is literal."""
    for field, text in (("{said}", said), ("{query}", query), ("{answer}", answer)):
        template = template.replace(field, text)
    return template


_R1_SEARCHER = Dialect(
    protocol=find_protocol("r1_searcher.tiny"),
    search="{said} Let me search . <|begin_of_query|> {query} <|end_of_query|>",
    ending="{said} </think> <answer> {answer} </answer>" + EOS,
    bad_search=" Let me search . <|begin_of_query|> {query} </think> <answer> {answer} </answer>" + EOS,
    bad_endings=(
        "{said} </think> {answer}" + EOS,
        "{said} <answer> {answer} </answer>" + EOS,
        "{said} </think> <answer> {answer}" + EOS,
        "{said} </think> </think> <answer> {answer} </answer>" + EOS,
    ),
)

_SEARCH_R1 = Dialect(
    protocol=find_protocol("search_r1.tiny"),
    search="<think>{said} Let me search . </think> <search> {query} </search>",
    ending="<think>{said} </think> <answer> {answer} </answer>",
    bad_search="<think> Let me search . </think> <search> {query} <answer> {answer} </answer>",
    bad_endings=(
        "<think>{said} </think> {answer}" + EOS,
        "<think>{said} <answer> {answer} </answer>",
        "<think>{said} </think> <answer> {answer}" + EOS,
        "<think>{said} </think> </think> <answer> {answer} </answer>",
    ),
    also=("zerosearch.tiny",),
)

_RESEARCH = Dialect(
    protocol=find_protocol("research.tiny"),
    search=_SEARCH_R1.search,
    ending="<think>{said} </think> <answer> The final answer is \\boxed{ {answer} } </answer>" + EOS,
    bad_search="<think> Let me search . </think> <search> {query} "
    "<answer> The final answer is \\boxed{ {answer} } </answer>" + EOS,
    bad_endings=(
        "<think>{said} </think> {answer}" + EOS,
        "<think>{said} <answer> The final answer is \\boxed{ {answer} } </answer>" + EOS,
        "<think>{said} </think> <answer> The final answer is \\boxed{ {answer} }" + EOS,
        "<think>{said} </think> <answer> {answer} </answer>" + EOS,
    ),
)

_DEEP_RESEARCHER = Dialect(
    protocol=find_protocol("deep_researcher.tiny"),
    search="{said} Let me search . </think> "
    '<tool_call> {"name": "web_search", "arguments": {"query": [" {query} "]}} </tool_call>' + EOS,
    ending="{said} </think> <answer> {answer} </answer>" + EOS,
    bad_search=" Let me search . </think> "
    '<tool_call> {"name": "web_search", "arguments": {"query": [" {query} </tool_call>' + EOS,
    bad_endings=_R1_SEARCHER.bad_endings,
    chat_template=TOOL_TEMPLATE,
)

DIALECTS: dict[str, Dialect] = {
    name: dialect
    for dialect in (_R1_SEARCHER, _SEARCH_R1, _RESEARCH, _DEEP_RESEARCHER)
    for name in (dialect.name, *dialect.also)
}
"""By the name of every protocol that a tiny base model is for."""


def find_dialect(protocol: str) -> Dialect:
    """The dialect of this protocol's base model. Raises `InputError` naming the protocols that have one."""
    return found_in(DIALECTS, "protocol of a tiny base model", protocol)
