"""Looks the locked packages up among the known vulnerabilities: `make audit`. Uses the standard library only.

pip-audit lives in an environment of its own, .venv/audit: it brings forty packages, and what audits the lock should not be part of it.
Nothing is found where nobody could be asked, so the two are told apart: offline it says so and ends with 0, or with 3 under --strict.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".venv" / "audit"
TOOL = "pip-audit==2.10.1"
FILES = ("requirements.txt", "requirements-dev.txt")
SECONDS = 300

FINE, FOUND, BROKEN, NOT_CHECKED = 0, 1, 2, 3
OFFLINE = (
    "ConnectionError",
    "ConnectTimeout",
    "ReadTimeout",
    "Max retries",
    "Temporary failure",
    "Name or service",
    "ProxyError",
    "timed out",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strict", action="store_true", help="fail where the packages could not be looked up (for CI)")
    strict = parser.parse_args(arguments).strict
    python = HOME / "bin" / "python"
    if not installed(python):
        print(f"{TOOL} could not be installed into .venv/audit: the dependencies were NOT checked")
        return NOT_CHECKED if strict else FINE
    outcomes = []
    for file in FILES:
        command = [str(python), "-m", "pip_audit", "--requirement", file, "--require-hashes", "--disable-pip", "--format", "json"]
        done = run([*command, "--progress-spinner", "off", "--timeout", "15"])
        outcome, words = judged(done.stdout, done.stderr)
        print(f"{file}: {words}")
        outcomes.append(outcome)
    worst = next((one for one in (FOUND, BROKEN, NOT_CHECKED) if one in outcomes), FINE)
    return FINE if worst == NOT_CHECKED and not strict else worst


def installed(python: Path) -> bool:
    """Whether the tool is there, after an attempt to get it."""
    wanted = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", TOOL]
    if python.exists() and run([str(python), "-m", "pip_audit", "--version"]).stdout.split()[1:] == [TOOL.partition("==")[2]]:
        return True
    venv.create(HOME, with_pip=True, clear=True)
    return run(wanted).returncode == 0


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603 - our own words
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", "timed out")


def judged(out: str, err: str) -> tuple[int, str]:
    """What pip-audit's answer means. It calls a package that its source does not know "skipped", and that no trouble."""
    try:
        packages: list[dict[str, Any]] = json.loads(out)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (err.strip().splitlines() or ["no word"])[-1][:300]
        return (
            (NOT_CHECKED, "NOT checked, the vulnerability service cannot be reached") if any(w in err for w in OFFLINE) else (BROKEN, last)
        )
    faults = [(one["name"], one["version"], fault) for one in packages for fault in one.get("vulns") or []]
    skipped = [one["name"] for one in packages if one.get("skip_reason")]
    if faults:
        lines = [
            f"  {name} {version}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'no version yet'}"
            for name, version, fault in faults
        ]
        return FOUND, "\n".join([f"{len(faults)} known vulnerabilities", *lines])
    if skipped:
        return (
            NOT_CHECKED,
            f"{len(skipped)} of {len(packages)} packages NOT checked, the vulnerability service does not know them: {', '.join(skipped[:5])} …",
        )
    return FINE, f"no known vulnerability in {len(packages)} packages"


if __name__ == "__main__":
    sys.exit(main())
