"""The protocols of the five systems: rows of `PROTOCOLS`.

Each row gives what its system's rollout does, to the byte where it is published; where a published behaviour is a
bug, the comment says what is done instead. Prompts are our own words with the published meaning.
"""

from __future__ import annotations

from dataclasses import replace

from foundation.errors import found_in
from r1_searcher.episode.protocol import Protocol, Tags, Tool, prompt_text
from r1_searcher.episode.trajectory import Trajectory
from r1_searcher.reward import rules_deep_researcher, rules_r1_searcher, rules_research, rules_search_r1

# Tags, wrapping and query clean-up as R1-Searcher's rollout does them: the environment's text is
# "\n\n<|begin_of_documents|>\n(1)...\n(2)...\n<|end_of_documents|>\n\n", the word None stands for no result, a query
# loses its double quotes, and a malformed action ends the episode.
R1_SEARCHER_BASE = Protocol(
    name="r1_searcher.base",
    prompt=prompt_text("r1_searcher_base.txt"),
    query=Tags("<|begin_of_query|>", "<|end_of_query|>"),
    documents=Tags("<|begin_of_documents|>", "<|end_of_documents|>"),
    answer=Tags("<answer>", "</answer>"),
    think=Tags("<think>", "</think>"),
    passage_format="({rank})Title: {title} Text: {text}\n",
    before_documents="\n\n<|begin_of_documents|>\n",
    after_documents="<|end_of_documents|>\n\n",
    no_documents="None",
    query_strip='"',
    thinks_once=True,
    format=rules_r1_searcher.RULES,
)

R1_SEARCHER_CHAT = replace(
    R1_SEARCHER_BASE,
    name="r1_searcher.chat",
    prompt=prompt_text("r1_searcher_chat_user.txt"),
    system_prompt=prompt_text("r1_searcher_chat_system.txt"),
    chat=True,
    prefill="<think>",
)

# The tiny world's model has a vocabulary of a few hundred tokens: a prompt of instructions would be noise to it.
R1_SEARCHER_TINY = replace(
    R1_SEARCHER_BASE,
    name="r1_searcher.tiny",
    prompt=prompt_text("r1_searcher_tiny.txt"),
    passage_format="({rank}) {text}\n",
)

# Search-R1's loop. Published: 500 tokens are generated, then cut after the first closing tag and encoded again; here
# the engine stops at the tag (as the paper's algorithm does) and the sampled ids stay. The title is the first line
# of a wiki-18 passage, with the quotation marks that it has there.
SEARCH_R1 = Protocol(
    name="search_r1",
    prompt=prompt_text("search_r1.txt"),
    query=Tags("<search>", "</search>"),
    documents=Tags("<information>", "</information>"),
    answer=Tags("<answer>", "</answer>"),
    think=Tags("<think>", "</think>"),
    passage_format='Doc {rank}(Title: "{title}") {text}',
    passage_separator="\n",
    before_documents="\n\n<information>",
    after_documents="</information>\n\n",
    chat=True,
    stops_at_answer=True,
    forgiving=True,
    feedback="\nThat was not a valid action. To search, I have to put the query between <search> and </search>; "
    "to answer, I have to put the answer between <answer> and </answer>. I will try again.\n",
    ends_with_question_mark=True,
    format=rules_search_r1.RULES,
)

# ReSearch generates on after text that is no search, and sends an empty query where the opening tag is missing; here
# such a turn is not searched for, and generation continues anyway.
RESEARCH_BASE = Protocol(
    name="research.base",
    prompt=prompt_text("research_base.txt"),
    query=Tags("<search>", "</search>"),
    documents=Tags("<result>", "</result>"),
    answer=Tags("<answer>", "</answer>"),
    think=Tags("<think>", "</think>"),
    passage_format='"{title}"\n{text}',
    passage_separator="\n\n",
    before_documents=" <result>\n",
    after_documents="\n</result>",
    boxed=True,
    first_answer=True,
    forgiving=True,
    format=rules_research.RULES,
)

RESEARCH_CHAT = replace(
    RESEARCH_BASE,
    name="research.chat",
    prompt=prompt_text("question.txt"),
    system_prompt=prompt_text("research_chat_system.txt"),
    chat=True,
)

# ZeroSearch is Search-R1's loop with another search engine: the simulator writes lines "Doc 1: …".
ZEROSEARCH = replace(SEARCH_R1, name="zerosearch", passage_format="Doc {rank}: {titled_text}")

WEB_SEARCH = Tool(
    name="web_search",
    retriever="search",
    argument="query",
    description="Search the web. Takes up to three queries and returns, for each, a list of pages.",
    asked="search_query",
    found="web_page_info_list",
    fields={"title": "title", "url": "id", "quick_summary": "text"},
)
BROWSE = Tool(
    name="browse_webpage",
    retriever="browse",
    argument="url_list",
    description="Read web pages. Takes up to three addresses from search results and returns what each page says.",
    asked="url",
    found="information",
    fields={"page_number": "rank", "page_summary": "text"},
)

# DeepResearcher's loop. Published: the whole conversation is rendered again for every turn, tool results as the text
# of a Python list; here the tool message is cut out of the template once, results are JSON, and sampled ids stay.
DEEP_RESEARCHER = Protocol(
    name="deep_researcher",
    prompt=prompt_text("question.txt"),
    system_prompt=prompt_text("deep_researcher_system.txt"),
    query=Tags("<tool_call>", "</tool_call>"),
    documents=Tags("<tool_response>", "</tool_response>"),
    answer=Tags("<answer>", "</answer>"),
    think=Tags("<think>", "</think>"),
    chat=True,
    prefill="<think>",
    first_answer=True,
    stops_at_query=False,
    tools=(WEB_SEARCH, BROWSE),
    format=rules_deep_researcher.RULES,
)
DEEP_RESEARCHER_RAG = replace(DEEP_RESEARCHER, name="deep_researcher.rag", tools=(WEB_SEARCH,))


def _is_answered(trajectory: Trajectory, protocol: Protocol) -> bool:
    """There is an answer: in which form, only the agent knows."""
    return trajectory.answer is not None


# What a reward reads of the episodes of a user's own agent: the tags of tools and thoughts that chat models are trained
# on. Prompts, stops and results are the agent's.
OWN_AGENT = Protocol(
    name="own_agent",
    prompt=prompt_text("question.txt"),
    query=Tags("<tool_call>", "</tool_call>"),
    documents=Tags("<tool_response>", "</tool_response>"),
    answer=Tags("<answer>", "</answer>"),
    think=Tags("<think>", "</think>"),
    passage_format="({rank}) {titled_text}\n",
    before_documents="\n<tool_response>\n",
    after_documents="</tool_response>\n",
    chat=True,
    needs_agent=True,
    format={"answered": _is_answered},
)


def _tiny(protocol: Protocol) -> Protocol:
    """The protocol for the tiny world's models: a prompt of one line, and passages without titles."""
    return replace(
        protocol,
        name=f"{protocol.name.split('.')[0]}.tiny",
        prompt=prompt_text("tiny.txt"),
        chat=False,
        system_prompt="",
        passage_format="({rank}) {text}",
        feedback=protocol.feedback and "\nNot a valid action .\n",
    )


_ROWS = (
    R1_SEARCHER_BASE,
    R1_SEARCHER_CHAT,
    R1_SEARCHER_TINY,
    SEARCH_R1,
    _tiny(SEARCH_R1),
    RESEARCH_BASE,
    RESEARCH_CHAT,
    _tiny(RESEARCH_BASE),
    ZEROSEARCH,
    _tiny(ZEROSEARCH),
    DEEP_RESEARCHER,
    DEEP_RESEARCHER_RAG,
    OWN_AGENT,
    replace(
        DEEP_RESEARCHER_RAG,
        name="deep_researcher.tiny",
        system_prompt="",
        tools=(replace(WEB_SEARCH, fields={"quick_summary": "text"}),),
    ),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ROWS}


def find_protocol(name: str) -> Protocol:
    """The protocol of this name. Raises `InputError` naming the known ones."""
    return found_in(PROTOCOLS, "protocol", name)
