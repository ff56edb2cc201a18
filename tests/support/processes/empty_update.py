"""Prints what the host's updates make of a tiny model: `empty_update.py MASKED,MASKED,… FLAG VALUE …`.

Each rollout is two questions of two samples each, `MASKED` of which have no trained token, and makes one update by the
host's experience maker, actor and DeepSpeed. One JSON line per rollout: the largest change of a weight, and what the
host logs.
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

masked, *flags = sys.argv[1:]
os.environ["R1_SEARCHER_CPU"] = "1"

from r1_searcher.host import worker  # noqa: E402
from r1_searcher.host.command import build_command  # noqa: E402
from r1_searcher.host.device import Device  # noqa: E402
from r1_searcher.recipe.recipe import find_recipe  # noqa: E402

worker.prepare()

import deepspeed  # noqa: E402
import ray  # noqa: E402
import torch  # noqa: E402
from openrlhf.models import Actor  # noqa: E402
from openrlhf.trainer.ppo_utils.experience import Experience  # noqa: E402
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker  # noqa: E402
from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer  # noqa: E402
from openrlhf.utils import get_strategy  # noqa: E402
from openrlhf.utils.config import hierarchize  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

SAMPLES, TOKENS, VOCABULARY = 4, 8, 32
of_two_questions = ("--rollout.batch_size", "2", "--rollout.n_samples_per_prompt", "2", "--train.batch_size", "4")
small = ("--train.micro_batch_size", "2", "--rollout.micro_batch_size", "2", "--train.max_epochs", "1")
command = build_command(find_recipe("tiny.stage1"), Path("/run"), (*of_two_questions, *small, *flags), Device.CPU)
arguments = hierarchize(command.flags)
arguments.actor.eps_clip_low_high = (arguments.actor.eps_clip, arguments.actor.eps_clip)  # as the host's main does
ray.put = ray.get = lambda value: value


def trainer_of_a_tiny_model() -> ActorPPOTrainer:
    """The host's, over its DeepSpeed strategy."""
    strategy = get_strategy(arguments)
    strategy.setup_distributed()
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, attn_implementation="sdpa", **sizes)).bfloat16()
    actor = Actor(model)
    actor.packing_samples = False  # the host sets it only where it loads a model by name
    optimizer = {"optim": "adam", "adam": vars(arguments.actor.adam), "lr_scheduler": "constant", "scheduler_steps": 9}
    actor, optim, scheduler = strategy.prepare((actor, optimizer))
    micro_batch = arguments.train.micro_batch_size
    return ActorPPOTrainer(strategy, actor, None, optim, scheduler, micro_train_batch_size=micro_batch)


class Group:
    """The actors as the experience maker asks them: here the trainer's own."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def async_run_method_batch(self, method_name: str, sequences, action_mask, attention_mask):
        """The log-probs of each micro-batch."""
        batches = zip(sequences, action_mask, attention_mask, strict=True)
        return [[self._actor(ids, mask, attention_mask=attention)] for ids, mask, attention in batches]

    def async_run_method(self, method_name: str) -> list:
        """Nothing."""
        return []


def rollout(empty: int) -> list[Experience]:
    """One sample each; the first `empty` have no action."""
    ids = torch.randint(1, VOCABULARY, (SAMPLES, TOKENS), generator=torch.Generator().manual_seed(1))
    actions = torch.ones(SAMPLES, TOKENS - 1, dtype=torch.bool)
    actions[:empty] = False
    return [
        Experience(
            sequences=ids[[place]],
            attention_mask=torch.ones(1, TOKENS, dtype=torch.long),
            action_mask=actions[[place]],
            rollout_log_probs=torch.full((1, TOKENS - 1), -3.0) * actions[[place]],
            rewards=torch.tensor([float(place % 2)]),
            total_length=torch.tensor([float(TOKENS)]),
            info={"reward": torch.tensor([float(place % 2)])},
        )
        for place in range(SAMPLES)
    ]


def weights(trainer: ActorPPOTrainer) -> torch.Tensor:
    """All weights, as one vector."""
    parameters = list(trainer.actor.model.parameters())
    with deepspeed.zero.GatheredParameters(parameters):  # ZeRO-3 leaves a rank its share
        return torch.cat([parameter.detach().float().flatten() for parameter in parameters])


trainer = trainer_of_a_tiny_model()
constant = SimpleNamespace(value=arguments.algo.kl.init_coef)
maker = RemoteExperienceMaker(
    Group(trainer.actor), None, None, None, constant, trainer.strategy, SimpleNamespace(pad_token_id=0)
)
for empty in masked.split(","):
    before = weights(trainer)
    for experience in maker.make_experience_batch(rollout(int(empty))):
        trainer.replay_buffer.append(experience)
    status = trainer.ppo_train(constant.value)
    trainer.replay_buffer.clear()
    moved = (weights(trainer) - before).abs().max().item()
    print("ROLLOUT", json.dumps({"moved": moved, **{name: float(value) for name, value in status.items()}}), flush=True)
