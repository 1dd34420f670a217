# @title Set-up: run this cell first
def set_up():
    """Install what this notebook needs and does not find. Torch, numpy and all else that is here stay as they are."""
    import importlib
    import os
    import subprocess
    import sys
    from importlib.util import find_spec

    needed = {
        "jaxtyping": "jaxtyping==PIN",
        "wadler_lindig": "wadler-lindig==PIN",
        "anywidget": "anywidget==PIN",
        "psygnal": "psygnal==PIN",
        "structattn_minimal": os.environ.get("STRUCTATTN_SOURCE", "git+REPOSITORY"),
    }
    from_colab = ("torch", "numpy", "scipy", "matplotlib", "plotly", "ipywidgets")
    yours = [name for name in from_colab if find_spec(name) is None]
    if yours:
        print(f"Colab has these and this machine does not; they are yours to install: {' '.join(yours)}")
    missing = [name for name in needed if find_spec(name) is None]
    if not missing:
        print("Everything else is here already." if yours else "Everything is here already.")
        return
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    done = subprocess.run([*pip, *(needed[name] for name in missing)], capture_output=True, text=True)
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["pip gave no reason"]
        why = next((line for line in reversed(said) if line.startswith("ERROR")), said[-1])
        by_hand = f"pip install --no-deps {' '.join(needed[name] for name in missing)}"
        raise SystemExit(
            f"Could not install {', '.join(missing)}.\n{why}\n"
            f"If this machine is offline, connect it and run this cell again, or install them beforehand:\n{by_hand}"
        )
    importlib.invalidate_caches()
    print(f"Installed {', '.join(missing)}.")


set_up()
