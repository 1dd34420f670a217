"""Makes `.venv` from `requirements.txt`, once: as long as nothing it depends on changes, this returns at once."""

import hashlib
import platform
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "made-from"
REASON = ROOT / "_build" / ".reason"
INPUTS = ("requirements.txt", "pyproject.toml", "book/sphinx_ext/pyproject.toml")
EDITABLE = ("-e", str(ROOT), "-e", str(ROOT / "book" / "sphinx_ext"))
NO_NETWORK = re.compile(
    r"NewConnectionError|Failed to establish a new connection|Temporary failure in name resolution|Max retries exceeded"
    r"|Name or service not known|Network is unreachable|ConnectTimeoutError|Connection refused"
)
QUIET = ("Requirement already satisfied", "Looking in", "WARNING: Location", "  ")


def stop(reason: str) -> None:
    """End with `reason`, which the Makefile prints last."""
    REASON.parent.mkdir(exist_ok=True)
    REASON.write_text(reason + "\n")
    sys.exit(1)


def digest() -> str:
    """What the environment is made from."""
    made_from = hashlib.sha256(str(ROOT).encode())
    for name in INPUTS:
        made_from.update((ROOT / name).read_bytes())
    return made_from.hexdigest()


def pip(*arguments: str) -> None:
    """Run pip in the environment, showing what it does; stop with a plain sentence when it fails."""
    said = []
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            said.append(line)
            if not line.startswith(QUIET):
                print("   ", line.rstrip()[:110], flush=True)
    if process.returncode == 0:
        return
    if NO_NETWORK.search("".join(said)):
        stop("no network: the first run downloads the packages of requirements.txt; connect, and run it again")
    errors = [line.strip() for line in said if line.startswith("ERROR")]
    stop(f"pip could not install requirements.txt: {errors[-1] if errors else 'see its output above'}")


def make() -> None:
    print(
        f"==> Making .venv with Python {platform.python_version()} from requirements.txt (once, some minutes)",
        flush=True,
    )
    if not PYTHON.exists():
        done = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True)
        if done.returncode:
            stop(f"{sys.executable} could not make .venv: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
    pip("-r", str(ROOT / "requirements.txt"))
    pip("--no-deps", "--no-build-isolation", "--quiet", *EDITABLE)
    STAMP.write_text(digest())


if __name__ == "__main__":
    if not (PYTHON.exists() and STAMP.exists() and STAMP.read_text() == digest()):
        make()
