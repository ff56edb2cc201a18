"""What a web page says about a question, told by a language model."""

from __future__ import annotations

from dataclasses import dataclass

from retriever.client.chat import ChatEndpoint
from retriever.web.page_text import PageText

READ_CHARS = 35_000
"""Characters of a page that the model sees, as in R1-Searcher's online evaluation."""
_MAX_TOKENS = 1024
_NOTHING = "none"
_PROMPT = """You read one web page for somebody who looks for the answer to a question.

Question: {question}

Title of the page: {title}
Text of the page:
{text}

Write down in a few sentences what the page says that helps with the question: names, dates, numbers and how they \
belong together, in the page's own terms. Add nothing that the page does not say. If nothing on the page helps, \
write only the word None."""


@dataclass(frozen=True, slots=True)
class PageSummarizer:
    """Asks a model for summaries."""

    endpoint: ChatEndpoint

    async def summarize(self, page: PageText, question: str, limit_s: float) -> str:
        """The summary; empty where nothing on the page helps. Raises RetrieverError."""
        question = question or "(not known; tell what the page is about)"
        prompt = _PROMPT.format(question=question, title=page.title, text=page.text[:READ_CHARS])
        messages = [{"role": "user", "content": prompt}]
        said = await self.endpoint.chat(messages, limit_s, temperature=0.0, max_tokens=_MAX_TOKENS)
        text = said.rpartition("</think>")[2].strip()
        return "" if text.strip(" .*\"'").lower() == _NOTHING else text
