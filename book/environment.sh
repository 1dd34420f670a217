#!/bin/sh
# Finds a Python that can make the environment and hands over to book/environment.py.
# On failure the reason is left in _build/.reason, which the Makefile prints last.
set -u

stop() {
    echo "$1" >_build/.reason
    exit 1
}

found=""
without_venv=""
for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
    if "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        found=$python
        break
    fi
    without_venv=$python
done

if [ -z "$found" ] && [ -n "$without_venv" ]; then
    stop "$without_venv cannot make virtual environments: install its venv module (Debian, Ubuntu: sudo apt install python3-venv)"
fi
if [ -z "$found" ]; then
    has=$("${PYTHON:-python3}" --version 2>&1 | head -n 1) || has="no Python at all"
    stop "Python 3.11 or newer is needed and was not found (found: $has); install it, or name it with: make book PYTHON=/path/to/python3"
fi
exec "$found" book/environment.py
