"""The models that can be asked: vLLM in this process, or an endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TextIO

from foundation.chat.endpoint import EndpointConfig, OpenAIEndpoint
from r1_searcher.episode.prompting import render_prompt
from r1_searcher.episode.question import QARow
from r1_searcher.episode.tokenization import HFTokenizer
from r1_searcher.host import model_folder
from r1_searcher.host.device import Device, detect
from r1_searcher.inference.decoding import PolicyFactory
from r1_searcher.inference.endpoint import EndpointPolicies
from r1_searcher.inference.engine import EngineSettings, VllmEngine, prepare_environment
from r1_searcher.inference.fleet import Fleet, visible_gpus
from r1_searcher.launch import machine
from r1_searcher.recipe.recipe import Recipe

_ENGINES_SHARE = 0.9
"""Of a GPU's memory; vLLM's own default."""


@dataclass(frozen=True)
class EngineModel:
    """A model for vLLM: one engine in this process, or several in processes of their own."""

    model: str
    device: Device | None = None
    """None: what is there."""
    tensor_parallel_size: int = 1
    seed: int = 0
    trust_remote_code: bool = False
    """Whether code that the model brings may run."""
    engines: int = 1
    place: int = 0
    """Which of the models this is that run on this machine side by side; each has a process of its own then."""
    of: int = 1
    """How many these are."""

    def check(self) -> None:
        """Raises `InputError` where there is no such model, or the machine cannot run an engine."""
        model_folder.check_model_path(self.model)
        machine.settle_temporary_folder(ray=False)
        machine.check_shared_memory()

    @property
    def identity(self) -> dict[str, Any]:
        """How the policy is reached, for the record."""
        return {"kind": "vllm"}

    def load_tokenizer(self) -> HFTokenizer:
        """The model's tokenizer; prepares the process for torch, which must not be imported before."""
        prepare_environment(self.device, self.model, self.engines)
        return model_folder.load_tokenizer(self.model, trust_remote_code=self.trust_remote_code)

    @asynccontextmanager
    async def policies(
        self, recipe: Recipe, row: QARow, tokenizer: HFTokenizer, console: TextIO
    ) -> AsyncIterator[PolicyFactory]:
        """The running engine, or engines."""
        device = prepare_environment(self.device, self.model, self.engines)
        times = f"{self.engines} times " if self.engines > 1 else ""
        print(f"starting vLLM {times}on {device.value}", file=console)
        settings = EngineSettings(
            self.model,
            recipe.limits.max_length,
            device,
            self.tensor_parallel_size,
            self.seed,
            self.trust_remote_code,
        )
        engine: VllmEngine | Fleet
        if self.engines == self.of == 1:
            engine = VllmEngine.start(settings)
        else:
            gpus = visible_gpus(detect()[1]) if device is Device.CUDA else []
            each = self.engines * self.tensor_parallel_size
            if len(gpus) >= each * self.of:
                gpus = gpus[self.place * each :]
            elif gpus:
                settings = replace(settings, memory_share=_ENGINES_SHARE / self.of)
            engine = await Fleet.start(settings, self.engines, gpus)
        try:
            yield engine
        finally:
            engine.close()


@dataclass(frozen=True)
class ServedModel:
    """A model behind an OpenAI-compatible endpoint."""

    endpoint: EndpointConfig
    tokenizer: str
    """Folder or hub name of its tokenizer."""
    text_only: bool = False
    """Whether only text is exchanged; such an evaluation is not exact to the token, and says so."""
    trust_remote_code: bool = False
    """Whether code that the tokenizer brings may run."""

    @property
    def model(self) -> str:
        """The model's name at the endpoint."""
        return self.endpoint.model

    def check(self) -> None:
        """Raises `InputError` where there is no such tokenizer, or nobody listens."""
        model_folder.check_model_path(self.tokenizer)

        async def ask() -> None:
            endpoint = OpenAIEndpoint(self.endpoint)
            try:
                await endpoint.check_listening()
            finally:
                await endpoint.close()

        asyncio.run(ask())

    @property
    def identity(self) -> dict[str, Any]:
        """How the policy is reached, for the record; the address does not count, a server may move."""
        return {"kind": "endpoint", "exchange": "text" if self.text_only else "token ids"}

    def load_tokenizer(self) -> HFTokenizer:
        """The served model's tokenizer."""
        return model_folder.load_tokenizer(self.tokenizer, trust_remote_code=self.trust_remote_code)

    @asynccontextmanager
    async def policies(
        self, recipe: Recipe, row: QARow, tokenizer: HFTokenizer, console: TextIO
    ) -> AsyncIterator[PolicyFactory]:
        """The endpoint, after one question's prompt has shown that it answers as it must."""
        note = " (text only: not exact to the token)" if self.text_only else ""
        print(f"asking {self.model} at {self.endpoint.shown}{note}", file=console)
        endpoint = OpenAIEndpoint(self.endpoint)
        policies = EndpointPolicies(endpoint, tokenizer, text_only=self.text_only)
        try:
            await policies.check(tokenizer.encode(render_prompt(recipe.protocol, row, tokenizer)))
            yield policies
        finally:
            await endpoint.close()


PlayedModel = EngineModel | ServedModel
