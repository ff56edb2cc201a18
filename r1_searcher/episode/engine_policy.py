"""A vLLM engine as a policy: the one place that knows vLLM's request and reply, for training and evaluation."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from r1_searcher.episode.policy import Completion, Finish

Generate = Callable[[list[int], Any], Awaitable[Any]]
"""`(token ids, vllm.SamplingParams) -> vllm.RequestOutput` of the finished request."""


class EnginePolicy:
    """Samples turns from an engine with the given parameters; stops and budget are set per turn.

    The ids are the truth.  vLLM looks for stop strings in the text that it detokenises, so the last token may run
    past the tag: it was sampled, and stays. The text is therefore decoded from the ids, by the loop.
    """

    def __init__(self, generate: Generate, sampling_params: Any) -> None:
        from vllm.sampling_params import RequestOutputKind

        self._generate = generate
        # The host gives all samples of a prompt the same object.
        # A shallow copy: only whole fields are set here, and vLLM makes its own deep one of every request.
        self._params = copy.copy(sampling_params)
        self._params.output_kind = RequestOutputKind.FINAL_ONLY
        self._params.include_stop_str_in_output = True
        self._params.detokenize = True
        self._params.skip_special_tokens = False
        # The host asks for at least one token before EOS. That hides EOS from the first token of a turn, so its
        # recorded log-prob would be another than the trainer's.
        self._params.min_tokens = 0

    async def generate(self, ids: Sequence[int], *, stops: Sequence[str], max_tokens: int) -> Completion:
        """Sample one turn; see `Policy.generate`."""
        params = copy.copy(self._params)
        params.stop = list(stops)
        params.max_tokens = max_tokens
        reply = await self._generate(list(ids), params)
        output = reply.outputs[0]
        sampled = tuple(output.token_ids)
        return Completion(sampled, _finish(output), _logprobs(output, sampled))


def _finish(output: Any) -> Finish:
    if output.finish_reason == "length":
        return Finish.LENGTH
    if output.finish_reason != "stop":
        raise RuntimeError(f"the engine ended a request with {output.finish_reason!r}; expected 'stop' or 'length'")
    return Finish.STOP if isinstance(output.stop_reason, str) else Finish.EOS


def _logprobs(output: Any, ids: Sequence[int]) -> tuple[float, ...] | None:
    if output.logprobs is None:
        return None
    return tuple(at[token].logprob for at, token in zip(output.logprobs, ids, strict=True))
