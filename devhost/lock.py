"""Compiles pyproject.toml into requirements.txt (deployed) and requirements-dev.txt (that and the tools). Run by `make lock`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILE = "-m uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet"
HEADER = "# Compiled from pyproject.toml by `make lock`; change it there.\n"


def main() -> None:
    for name, options in (("requirements.txt", []), ("requirements-dev.txt", ["--group", "dev", "--constraint", "requirements.txt"])):
        command = [sys.executable, *COMPILE.split(), *options, "--output-file", name, *sys.argv[1:]]
        subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603
        target = ROOT / name
        target.write_text(HEADER + target.read_text().removeprefix(HEADER))


if __name__ == "__main__":
    main()
