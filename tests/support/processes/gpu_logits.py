"""Prints how far log-probs of actions are from the host's, and the bytes of both ways: `gpu_logits.py MODEL TOKENS`.

Two packed episodes of which every eighth token is an action, with flash attention, forward and backward.
"""

import sys

import torch
from openrlhf.models import actor as host

from r1_searcher.host.patches import action_logits, host_patch

folder, tokens = sys.argv[1], int(sys.argv[2])
host_patch.install(action_logits.PATCHES)
actor = host.Actor(folder, attn_implementation="flash_attention_2", param_dtype="bf16", packing_samples=True)
actor.model.cuda()
actor.gradient_checkpointing_enable()
ids = torch.randint(0, 1000, (2, tokens), device="cuda")
attention = torch.ones_like(ids)
attention[1, tokens // 2 :] = 0
actions = attention[:, 1:] * (torch.arange(tokens - 1, device="cuda") % 8 == 0)
found, most = [], []
for way in (host.Actor.forward.__wrapped__, host.Actor.forward):
    actor.zero_grad()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    log_probs, _ = way(actor, ids, actions, attention_mask=attention, return_output=True)
    log_probs.sum().backward()
    torch.cuda.synchronize()
    found.append(log_probs.detach())
    most.append(torch.cuda.max_memory_allocated())
print((found[0] - found[1]).abs().max().item(), *most)
