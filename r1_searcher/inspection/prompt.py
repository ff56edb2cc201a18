"""Checks of the prompt: its template, its length, and that it does not hold the answer already."""

from __future__ import annotations

from foundation.errors import InputError
from r1_searcher.episode.parsing import last_between
from r1_searcher.episode.prompting import documents_frame, takes_system_message
from r1_searcher.inspection.finding import Finding, failed, ok, warning
from r1_searcher.inspection.subject import Subject


def check_chat(subject: Subject) -> Finding:
    """A chat protocol needs the tokenizer's template; one with tools, a template that shows tool messages."""
    protocol, tokenizer = subject.protocol, subject.tokenizer
    if not protocol.chat:
        return ok(f"{protocol.name} needs no chat template")
    if not getattr(tokenizer.hf, "chat_template", None):
        return failed(
            f"{protocol.name} is a chat protocol and the tokenizer has no chat template",
            "take the model's chat version, or a recipe for base models",
        )
    row, prompt = subject.longest_prompt
    if row.question.strip() not in prompt:
        return failed("the chat template does not show the user's message", "fix the chat template")
    if protocol.tools:
        try:
            frame = documents_frame(protocol, tokenizer)
        except (InputError, ValueError, TypeError) as error:
            return failed(f"the chat template takes no tool messages: {error}", "take a model with tool calling")
    if not takes_system_message(protocol, tokenizer):
        return warning(
            "the chat template shows no system message: its text stands before the question, in the user's",
            "an empty file as --system-prompt-file leaves it out, --prompt-file replaces the question's text",
        )
    if not protocol.tools:
        return ok("the chat template shows the question")
    return ok(f"tool results stand between {frame.open!r} and {frame.close!r}")


def check_length(subject: Subject) -> Finding:
    """The longest prompt must leave room for an answer, and should for a search; the model must reach so far."""
    limits, tokenizer = subject.recipe.limits, subject.tokenizer
    row, prompt = subject.longest_prompt
    tokens = len(tokenizer.encode(prompt))
    reach = subject.config.get("max_position_embeddings")
    if isinstance(reach, int) and limits.max_length > reach:
        return failed(
            f"episodes may have {limits.max_length} tokens, the model has {reach} positions",
            f"pass --max-length {reach}, here and in training, or take another model",
        )
    if tokens + limits.answer_tokens > limits.max_length:
        return failed(
            f"the prompt of question {row.id!r} has {tokens} tokens, which leaves less than the {limits.answer_tokens} "
            f"kept for an answer of {limits.max_length}",
            "raise --max-length or shorten the prompt",
        )
    if tokens + limits.turn_tokens + limits.answer_tokens > limits.max_length:
        return warning(
            f"after the prompt ({tokens} tokens) and one turn ({limits.turn_tokens}) there is no room for documents "
            f"in {limits.max_length}",
            "raise --max-length or lower --turn-tokens",
        )
    return ok(f"the longest prompt has {tokens} of {limits.max_length} tokens")


def check_answers(subject: Subject) -> Finding:
    """No finished answer may stand where a reward takes it for the policy's.

    Our own rewards read what the policy wrote. Servers that read the whole text take the last pair of answer tags:
    one in or after the question would be it. An example in the instructions before it is what published prompts
    have, and what their servers expect; in a prompt of the user's own it is worth a word.
    """
    tags = subject.protocol.answer
    first, *others = subject.rows
    for row in (first, *(row for row in others if tags.open in row.question)):  # what follows the question is the same
        prompt = subject.prompt(row)
        tail = prompt[max(prompt.rfind(row.question[:200].rstrip()), 0) :]
        found = last_between(tail, tags)
        if found is not None:
            return failed(
                f"the prompt of question {row.id!r} holds a finished answer, {found!r}, where the policy continues",
                f"take {tags.open} {tags.close} out of the question or of what follows it",
            )
        if tail.rfind(tags.open) > tail.rfind(tags.close):
            return failed(
                f"the prompt of question {row.id!r} opens {tags.open} itself, so the policy never does",
                f"take {tags.open} out of what follows the question",
            )
    example = last_between(subject.prompt(subject.rows[0]), tags)
    if example is None or not subject.recipe.own_prompts:
        return ok("no finished answer stands where the policy continues")
    return warning(
        f"your prompt holds a finished answer as an example: {example!r}",
        "rewards here do not read it; a reward server that reads the whole text does: describe the form in words",
    )
