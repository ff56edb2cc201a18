"""A model behind an OpenAI-compatible endpoint, as policies: the same episodes as with the engine in this process.

With vLLM's server (`/v1/completions`) token ids go in and the sampled ids come back: the policy is the one that
the engine of `r1_searcher.episode.engine_policy` gives. Endpoints that know only text can be evaluated too,
but not to the token: context and reply are encoded anew on either side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from foundation.chat.endpoint import OpenAIEndpoint
from foundation.errors import InputError, OutsideFailure, Rejected, RunAborted
from r1_searcher.episode.policy import Completion, Finish, Policy
from r1_searcher.episode.tokenization import Tokenizer
from r1_searcher.inference.decoding import Decoding

# What the in-process engine does, in full: a server fills what is left out from the model's generation_config.
_VLLM_PARAMETERS: Mapping[str, Any] = {
    "add_special_tokens": False,
    "include_stop_str_in_output": True,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "return_token_ids": True,
    "skip_special_tokens": False,
    "top_k": 0,
}


# What text loses otherwise: tags that are special tokens. Not in OpenAI's own API, which refuses them.
_TEXT_PARAMETERS: Mapping[str, Any] = {"add_special_tokens": False, "skip_special_tokens": False}


class EndpointPolicies:
    """Policies of one served model."""

    def __init__(self, endpoint: OpenAIEndpoint, tokenizer: Tokenizer, *, text_only: bool = False) -> None:
        """`text_only`: the endpoint takes and gives no token ids."""
        self._endpoint = endpoint
        self._tokenizer = tokenizer
        self._text_only = text_only
        self._text_parameters: Mapping[str, Any] = _TEXT_PARAMETERS

    def policy(self, decoding: Decoding) -> Policy:
        """The model under a decoding."""
        if self._text_only:
            return TextPolicy(self._endpoint, decoding, self._tokenizer, self._text_parameters)
        return TokenPolicy(self._endpoint, decoding)

    @property
    def unfinished(self) -> int:
        """Requests that the endpoint has not answered yet."""
        return self._endpoint.under_way

    async def check(self, ids: Sequence[int]) -> None:
        """Sample one token after a prompt, to see whether the endpoint serves this model, and ids.

        Raises:
            InputError: it does not, or its prompt is another than the one that it was sent.
        """
        try:
            if self._text_only:
                await self._check_text(self._tokenizer.decode(ids))
                return
            choice = await self._endpoint.complete(list(ids), max_tokens=1, extra_body=dict(_VLLM_PARAMETERS))
        except OutsideFailure as error:
            raise InputError(f"the endpoint cannot be evaluated: {error}") from error
        if not isinstance(getattr(choice, "token_ids", None), list):
            raise InputError(
                f"{self._endpoint.config.shown} gives no token ids back (vLLM's server does); --endpoint-text "
                "evaluates through text, not exact to the token"
            )
        seen = getattr(choice, "prompt_token_ids", None)
        if seen is not None and list(seen) != list(ids):
            raise InputError(
                f"{self._endpoint.config.shown} was sent a prompt of {len(ids)} ids and used another of {len(seen)}"
            )

    async def _check_text(self, prompt: str) -> None:
        try:
            await self._endpoint.complete_until(prompt, (), max_tokens=1, extra_body=dict(_TEXT_PARAMETERS))
        except Rejected:
            await self._endpoint.complete_until(prompt, (), max_tokens=1)
            self._text_parameters = {}


class TokenPolicy:
    """Token ids in, sampled ids out: what was sampled is what is recorded."""

    def __init__(self, endpoint: OpenAIEndpoint, decoding: Decoding) -> None:
        self._endpoint = endpoint
        self._decoding = decoding

    async def generate(self, ids: Sequence[int], *, stops: Sequence[str], max_tokens: int) -> Completion:
        """One turn. Raises `RunAborted` where the endpoint stays down."""
        try:
            choice = await self._endpoint.complete(
                list(ids),
                **_sampling(self._decoding, ids, max_tokens),
                stop=list(stops),
                extra_body=dict(_VLLM_PARAMETERS),
            )
        except OutsideFailure as error:
            raise _aborted(error) from error
        return self._completion([choice])

    async def stream(
        self, ids: Sequence[int], *, stops: Sequence[str], max_tokens: int, told: Callable[[Sequence[int]], None]
    ) -> Completion:
        """One turn as it is sampled; see `StreamingPolicy.stream`. Raises `RunAborted`, also where it breaks off."""
        choices: list[Any] = []

        def grow(choice: Any) -> None:
            choices.append(choice)
            told(self._ids(choice))

        try:
            await self._endpoint.stream(
                list(ids),
                grow,
                **_sampling(self._decoding, ids, max_tokens),
                stop=list(stops),
                extra_body=dict(_VLLM_PARAMETERS),
            )
        except OutsideFailure as error:
            raise _aborted(error) from error
        return self._completion(choices)

    def _completion(self, choices: Sequence[Any]) -> Completion:
        """The turn whose pieces these are; the last one says why it ended."""
        sampled = tuple(token for choice in choices for token in self._ids(choice))
        last = choices[-1] if choices else None
        return Completion(sampled, _finish(getattr(last, "finish_reason", None), getattr(last, "stop_reason", None)))

    def _ids(self, choice: Any) -> list[int]:
        sampled = getattr(choice, "token_ids", None)
        if not isinstance(sampled, list):
            raise RunAborted(
                f"{self._endpoint.config.shown} gave no token ids back; the same command continues from here"
            )
        return sampled


class TextPolicy:
    """Text in, text out, encoded here: the ids are those of the text, and need not be what was sampled."""

    def __init__(
        self, endpoint: OpenAIEndpoint, decoding: Decoding, tokenizer: Tokenizer, extra: Mapping[str, Any]
    ) -> None:
        self._endpoint = endpoint
        self._decoding = decoding
        self._tokenizer = tokenizer
        self._extra = extra

    async def generate(self, ids: Sequence[int], *, stops: Sequence[str], max_tokens: int) -> Completion:
        """One turn. Raises `RunAborted` where the endpoint stays down."""
        parameters = {**_sampling(self._decoding, ids, max_tokens), "extra_body": dict(self._extra)}
        try:
            reply = await self._endpoint.complete_until(self._tokenizer.decode(ids), stops, **parameters)
        except OutsideFailure as error:
            raise _aborted(error) from error
        finish = Finish.STOP if reply.finish == "stop_string" else _finish(reply.finish, None)
        return Completion(tuple(self._tokenizer.encode(reply.text)), finish)


def _sampling(decoding: Decoding, ids: Sequence[int], max_tokens: int) -> dict[str, Any]:
    seed = decoding.seed_of(ids)
    parameters = {"temperature": decoding.temperature, "top_p": decoding.top_p, "max_tokens": max_tokens}
    return parameters if seed is None else {**parameters, "seed": seed}


_FINISHES = {
    **dict.fromkeys(("length", "max_tokens"), Finish.LENGTH),
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn"), Finish.EOS),
    "stop_sequence": Finish.STOP,
}
"""Finish reasons of OpenAI's servers, and what others (text-generation-inference, Anthropic's) say for the same."""


def _finish(reason: str | None, stop_reason: object) -> Finish:
    finish = _FINISHES.get(reason or "")
    if finish is None:
        raise RunAborted(f"the endpoint ended a turn with {reason!r}; expected 'stop' or 'length'")
    return Finish.STOP if finish is Finish.EOS and isinstance(stop_reason, str) else finish


def _aborted(error: OutsideFailure) -> RunAborted:
    return RunAborted(f"the model's endpoint failed: {error}. The same command continues from here.")
