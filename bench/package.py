"""What is deployed: how long it takes to import, how big it is."""

from __future__ import annotations

import fnmatch
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMPORT = "import time; began = time.perf_counter(); import function_app; print(time.perf_counter() - began)"


def import_seconds(tries: int = 5) -> float:
    """Importing function_app in a new process with warm file caches; the best of some tries."""
    command = [sys.executable, "-c", IMPORT]
    environment = {"PATH": os.environ.get("PATH", "")}
    return min(
        float(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout) for _ in range(tries)
    )


def zipped_bytes() -> tuple[int, int]:
    """Files and bytes of the package before Azure's build adds the libraries of requirements.txt."""
    packed = io.BytesIO()
    files = list(deployed_files())
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.relative_to(ROOT))
    return len(files), len(packed.getvalue())


def deployed_files() -> Iterator[Path]:
    """Every file that .funcignore lets through; its patterns are names here, of files or folders."""
    patterns = [line.strip().strip("/") for line in (ROOT / ".funcignore").read_text().splitlines()]
    ignored = [pattern for pattern in patterns if pattern and not pattern.startswith("#")]
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if not any(fnmatch.fnmatch(name, pattern) for pattern in ignored))
        yield from (Path(folder) / name for name in sorted(files) if not any(fnmatch.fnmatch(name, pattern) for pattern in ignored))
