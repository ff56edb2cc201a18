"""A question to the text that an episode starts with."""

from __future__ import annotations

from functools import cache

from r1_searcher.protocol import Protocol, prompt_text
from r1_searcher.question import QARow
from r1_searcher.tokenization import Tokenizer

_prompt_text = cache(prompt_text)


def render_prompt(protocol: Protocol, row: QARow, tokenizer: Tokenizer) -> str:
    """The prompt, ending exactly where the policy goes on.

    Base protocols are plain text; chat protocols go through the tokenizer's own template, and then the prefill.
    """
    user = _prompt_text(protocol.prompt).replace("{question}", row.question)
    if not protocol.is_chat:
        return user + protocol.prefill
    messages = [
        {"role": "system", "content": _prompt_text(protocol.system_prompt)},
        {"role": "user", "content": user},
    ]
    text = tokenizer.apply_chat_template(messages)
    # Templates of reasoning models open the thinking themselves.
    return text if text.rstrip().endswith(protocol.prefill) else text + protocol.prefill
