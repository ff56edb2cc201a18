"""An episode's events as JSON objects: what the service streams, stores and replays, and its page shows."""

from __future__ import annotations

from typing import Any

from r1_searcher.episode.trajectory import Trajectory
from r1_searcher.episode.watching import (
    ActionEnded,
    ActionGrew,
    DocumentsGiven,
    Event,
    FeedbackGiven,
    PromptGiven,
    Searched,
    SearchStarted,
)
from retriever.passage import Passage


def event_json(event: Event) -> dict[str, Any] | None:
    """What a viewer is sent; None for what it has already, or gets with the episode's name (`end_json`)."""
    match event:
        case PromptGiven(text):
            return {"type": "prompt", "text": text}
        case ActionGrew(text):
            return {"type": "action", "text": text}
        case SearchStarted(queries, tool):
            return {"type": "search", "queries": list(queries), "tool": tool}
        case DocumentsGiven(searches, text):
            return {"type": "documents", "searches": [_search_json(search) for search in searches], "text": text}
        case FeedbackGiven(text):
            return {"type": "feedback", "text": text}
    return None


def stored_json(event: Event) -> dict[str, Any] | None:
    """The same for the record, where a turn is one piece."""
    match event:
        case ActionEnded(text):
            return {"type": "action", "text": text}
        case ActionGrew():
            return None
    return event_json(event)


def end_json(trajectory: Trajectory, name: str, model: str) -> dict[str, Any]:
    """The end of an episode."""
    return {
        "type": "end",
        "id": name,
        "answer": trajectory.answer,
        "stop_reason": trajectory.stop_reason.value,
        "n_searches": len(trajectory.searches),
        "seconds": round(trajectory.seconds, 3),
        "model": model,
    }


def passage_json(passage: Passage) -> dict[str, Any]:
    """A passage as it was found."""
    return {"id": passage.id, "title": passage.title, "text": passage.text}


def _search_json(search: Searched) -> dict[str, Any]:
    return {
        "query": search.query,
        "tool": search.tool,
        "error": search.error or None,
        "seconds": round(search.seconds, 4),
        "passages": [passage_json(passage) for passage in search.passages],
    }
