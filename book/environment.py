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
    r"|Name or service not known|Network is unreachable|ConnectTimeoutError|Connection refused|\(from versions: none\)"
)
PACKAGE = re.compile(r"(?:Collecting (?P<name>\S+)|Processing \S*/(?P<file>[^/\s]+)\.whl)")


def stop(reason: str) -> None:
    """End with `reason`, which the Makefile prints last."""
    REASON.parent.mkdir(exist_ok=True)
    REASON.write_text(reason + "\n")
    sys.exit(1)


def made_from() -> str:
    """What the environment is made from: this folder, and the files that say what goes in."""
    contents = hashlib.sha256()
    for name in INPUTS:
        contents.update((ROOT / name).read_bytes())
    return f"{ROOT}\n{contents.hexdigest()}\n"


def pip(*arguments: str) -> None:
    """Run pip in the environment, showing what it does; stop with a plain sentence when it fails."""
    said = []
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            said.append(line)
            package = PACKAGE.match(line)
            if package:
                print("   ", package["name"] or package["file"], flush=True)
            elif line.startswith("Installing"):
                print("    installing them", flush=True)
    if process.returncode == 0:
        return
    if NO_NETWORK.search("".join(said)):
        stop("no network: the first run downloads the packages of requirements.txt; connect, and run it again")
    errors = [line.strip() for line in said if line.startswith("ERROR")]
    stop(f"pip could not install requirements.txt: {errors[-1] if errors else 'see its output above'}")


def make(stamp: str) -> None:
    """Install what `requirements.txt` says; into a new environment, unless a whole one is here already."""
    if not stamp.startswith(f"{ROOT}\n") or not PYTHON.exists():
        version = platform.python_version()
        print(f"==> Making .venv with Python {version} from requirements.txt (once; some minutes)", flush=True)
        done = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True)
        if done.returncode:
            stop(f"{sys.executable} could not make .venv: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
    else:
        print("==> Bringing .venv up to date with requirements.txt", flush=True)
    pip("-r", str(ROOT / "requirements.txt"))
    pip("--no-deps", "--no-build-isolation", "--quiet", *EDITABLE)
    STAMP.write_text(made_from())


if __name__ == "__main__":
    found = STAMP.read_text() if STAMP.exists() else ""
    if found != made_from() or not PYTHON.exists():
        make(found)
