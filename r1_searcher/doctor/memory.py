"""The check of memory: what the run's flags put on a GPU, or into the RAM, against what this machine has."""

from __future__ import annotations

from foundation.errors import InputError
from r1_searcher.host.device import Device, cards, detect
from r1_searcher.inspection.finding import Finding, failed, ok, warning
from r1_searcher.inspection.subject import Subject
from r1_searcher.memory.cpu import plan_cpu
from r1_searcher.memory.fit import RESERVE, Cards, advice, fit
from r1_searcher.memory.phases import GIB
from r1_searcher.memory.shape import ModelShape

_TIGHT = 0.8
"""Share of the free RAM above which other programs will hardly have what they need."""


def this_machine() -> Cards | float:
    """The GPUs that torch sees, or the free bytes of main memory."""
    if detect()[0] is Device.CUDA:
        return cards()
    import psutil

    return float(psutil.virtual_memory().available)


def check_memory(subject: Subject, machine: Cards | float) -> Finding:
    """The run that the flags describe must fit, at the longest sequence."""
    try:
        shape = ModelShape.from_config(subject.config)
    except InputError as error:
        return warning(str(error), "look at its weights; an update needs 16 bytes per parameter and the logits")
    if isinstance(machine, Cards):
        return _on_gpus(subject, shape, machine)
    plan = plan_cpu(shape, subject.layout)
    parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in plan.processes.items())
    seen = f"{shape.parameters / 1e6:,.1f} M parameters need {plan.total / GIB:.1f} GiB of RAM ({parts}); "
    seen += f"{machine / GIB:.1f} are free"
    if plan.total > machine:
        return failed(seen, "take a smaller model, a lower --train.micro_batch_size, or a shorter --max-length")
    return warning(seen, "close other programs") if plan.total > _TIGHT * machine else ok(seen)


def _on_gpus(subject: Subject, shape: ModelShape, machine: Cards) -> Finding:
    if not subject.flags:
        return warning(
            "memory depends on the flags of the training, and none are given",
            "give --preset NAME or the training's flags; --gpus 8x80 plans any machine",
        )
    planned = fit(shape, subject.layout, machine)
    if not planned.fits:
        return failed(planned.complaint(), advice(planned) or "more or larger GPUs, a smaller model")
    phase = planned.worst[1]
    seen = f"{phase.phase.value} needs {phase.total / GIB:.1f} GiB of {machine.bytes_each / GIB:.1f} on each GPU"
    if not planned.has_reserve:
        return warning(
            seen,
            f"contexts and buffers are estimates, keep {RESERVE:.0%} free: a lower --vllm.gpu_memory_utilization, "
            "a shorter --max-length, or --ds.zero_stage 3",
        )
    return ok(seen)
