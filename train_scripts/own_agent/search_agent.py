"""An agent of the `openai` package that searches by tool calls: the example of docs/own_agent.md.

    python -m r1_searcher.train --recipe own_agent --agent train_scripts/own_agent/search_agent.py:search_agent …

Nothing in it knows that it is trained: with another `base_url` and key it asks any model. What the tool gives back has
the form of the recipe deep_researcher, so that both recipes can train it.
"""

from __future__ import annotations

import json
from typing import Any

TOOL = {
    "type": "function",
    "function": {
        "name": "web_search",
        "description": "Search the web. Takes up to three queries and returns, for each, a list of pages.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "array", "items": {"type": "string"}}},
            "required": ["query"],
        },
    },
}
MOST_QUERIES = 3


async def search_agent(question: str, settings: Any) -> str | None:
    """The answer, or None where there is none. `settings`: `r1_searcher.own_agent.chat_server.ClientSettings`."""
    client = settings.openai()
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    while True:
        reply = await client.chat.completions.create(model=settings.model, messages=messages, tools=[TOOL])
        message = reply.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            return answer_in(message.content or "")
        for call in message.tool_calls:
            result = await found(json.loads(call.function.arguments), settings)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


async def found(arguments: dict[str, Any], settings: Any) -> str:
    """The tool's result: what the run's search service finds. A model's arguments may be anything."""
    asked = arguments.get("query")
    queries = [query for query in (asked if isinstance(asked, list) else [asked]) if isinstance(query, str)]
    results = []
    for query in (" ".join(query.split()) for query in queries[:MOST_QUERIES]):
        passages = await settings.search(query) if query else []
        results.append({"search_query": query, "web_page_info_list": [{"quick_summary": p.text} for p in passages]})
    return json.dumps(results, ensure_ascii=False)


def answer_in(text: str) -> str | None:
    """What stands between the answer tags."""
    _, opened, rest = text.partition("<answer>")
    answer, closed, _ = rest.partition("</answer>")
    return answer.strip() or None if opened and closed else None
