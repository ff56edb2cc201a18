"""A change to another package, applied to one of its modules right after that module is imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

from wrapt import register_post_import_hook

_installed: set[HostPatch] = set()


@dataclass(frozen=True)
class HostPatch:
    """One assumption of the host that does not hold here, and the answer."""

    module: str
    """Module of the host that is patched after its import."""
    answers: str
    """The host's own source text that needs the patch; a test fails when it is gone."""
    apply: Callable[[ModuleType], None]
    stands_in: str = ""
    """Module that the text stands in, where it is not the patched one."""


def install(patches: Sequence[HostPatch]) -> None:
    """Apply each patch when its module is imported in this process; imports nothing. A second time changes nothing."""
    for patch in patches:
        if patch not in _installed:
            _installed.add(patch)
            register_post_import_hook(patch.apply, patch.module)
