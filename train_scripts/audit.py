"""Ask OSV, the database of advisories, about every pinned package.

    .venv/bin/python train_scripts/audit.py           # status 1 where something is known
    .venv/bin/python train_scripts/audit.py --warn    # reports it, exits with 0: what tests/run.sh runs

An advisory appears without a change of ours, so it fails no check: who publishes a version looks at it. Without the
network nothing is asked, which one line says.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LOCKS = Path(__file__).resolve().parent / "locks"
_OPTIONS = (
    "--disable-pip",
    "--no-deps",
    "--vulnerability-service",
    "osv",
    "--format",
    "json",
    "--progress-spinner",
    "off",
)


def findings(requirements: Sequence[Path], osv_url: str = "") -> list[str] | None:
    """A line for each known vulnerability of a pinned package; None where the database was not reached."""
    files = [word for file in requirements for word in ("--requirement", str(file))]
    where = ("--osv-url", osv_url) if osv_url else ()
    command = [sys.executable, "-m", "pip_audit", *_OPTIONS, *where, *files]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        found: Mapping[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        reason = done.stderr.strip().splitlines()[-1:] or [f"pip-audit ended with status {done.returncode}"]
        print(f"audit: not asked ({reason[0][:200]})", file=sys.stderr)
        return None
    return sorted(
        f"{package['name']} {package['version']}: {each['id']} {' '.join(each['aliases'])}".strip()
        + f", fixed in {', '.join(each['fix_versions']) or 'no version yet'}"
        for package in found["dependencies"]
        for each in package.get("vulns", ())
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; status 1 where something is known and `--warn` is not given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requirements", nargs="*", type=Path, help="files with hashes (default: all locks)")
    parser.add_argument("--warn", action="store_true", help="end with status 0 whatever is found")
    parser.add_argument("--osv-url", default="", help="another address of the database")
    options = parser.parse_args(argv)
    found = findings(options.requirements or sorted(LOCKS.glob("*.txt")), options.osv_url)
    for line in found or ():
        print(f"audit: {line}")
    if found == []:
        print("audit: nothing is known of the pinned versions")
    return 1 if found and not options.warn else 0


if __name__ == "__main__":
    sys.exit(main())
