"""What a test runs in a process of its own: without the type checks of the others, or with another environment."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def in_a_process(*words, **environment):
    """`python words` where the package can be imported; what it says and how it ends."""
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path} | environment
    return subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, timeout=500, check=False)
