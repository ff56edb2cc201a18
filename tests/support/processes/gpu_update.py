"""Prints the bytes that one update takes on a GPU, and those that are planned: `gpu_update.py MODEL TOKENS`.

The host's own actor makes log-probs and entropy of one packed sequence; Adam's states stand beside it as in ZeRO on
one GPU. Compared is what torch has allocated at most with the plan's weights, states, activations and logits.
"""

import sys
from pathlib import Path

import torch
from openrlhf.models import Actor

from r1_searcher.host.command import build_command
from r1_searcher.host.device import Device
from r1_searcher.memory.fit import Cards, fit
from r1_searcher.memory.layout import Layout
from r1_searcher.memory.phases import StepPhase
from r1_searcher.memory.shape import find_shape
from r1_searcher.recipe.recipe import find_recipe

folder, tokens = sys.argv[1], int(sys.argv[2])
flags = ("--actor.num_gpus_per_node", "1", "--algo.advantage.estimator", "reinforce", "--algo.kl.init_coef", "0")
flags = (*flags, "--actor.entropy_coef", "0.001", "--actor.gradient_checkpointing_enable", "--ds.packing_samples")
flags = (*flags, "--data.max_len", str(tokens))
command = build_command(find_recipe("search_r1"), Path("/run"), flags, Device.CUDA)
planned = fit(find_shape(folder), Layout(vars(command.flags)), Cards.parse("1x80")).plans[0]
update = next(phase for phase in planned.phases if phase.phase is StepPhase.UPDATE)
expected = sum(update.parts[name] for name in ("weights", "optimizer", "gradients", "activations", "logits"))

actor = Actor(folder, attn_implementation="flash_attention_2", param_dtype="bf16", packing_samples=True)
actor.model.cuda()
actor.gradient_checkpointing_enable()
states = [torch.zeros(3, *parameter.shape, device="cuda") for parameter in actor.model.parameters()]
sequence = torch.randint(0, 1000, (1, tokens), device="cuda")
mask = torch.ones_like(sequence)
for _ in range(2):  # the first pass compiles the entropy
    torch.cuda.reset_peak_memory_stats()
    log_probs, output = actor(sequence, mask[:, 1:], attention_mask=mask, return_output=True, return_entropy=True)
    (log_probs.mean() + output.entropy.mean()).backward()
    torch.cuda.synchronize()
print(torch.cuda.max_memory_allocated(), expected)
