"""Prints the gradient norm of two backward calls before one step, and of the second alone.

As OpenRLHF does with micro-batches by tokens: DeepSpeed is told that a step is one backward call.
"""

import sys

import deepspeed
import torch

(stage,) = sys.argv[1:]
torch.manual_seed(0)
deepspeed.init_distributed(dist_backend="gloo")
model = torch.nn.Linear(8, 8)
engine, *_ = deepspeed.initialize(
    model=model,
    model_parameters=model.parameters(),
    config={
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": int(stage)},
        "optimizer": {"type": "AdamW", "params": {"lr": 0.0}},
    },
)
large, small = 10 * torch.ones(1, 8, dtype=torch.bfloat16), torch.ones(1, 8, dtype=torch.bfloat16)
norms = []
for batches in ([large, small], [small]):
    for batch in batches:
        engine.backward(engine(batch).float().pow(2).sum())
    engine.step()
    norms.append(float(engine.get_global_grad_norm()))
print("norms", *norms)
