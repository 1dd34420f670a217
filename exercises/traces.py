"""An error as its author needs it."""

import linecache
import sysconfig
import traceback
from pathlib import Path

HERE = Path(__file__).parent
LIBRARIES = tuple({Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def told(error: BaseException) -> str:
    """What the error says, and the lines of its author's own code that led to it."""
    lines = []
    for frame in traceback.extract_tb(error.__traceback__):
        if own(frame.filename):
            source = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
            place = f"{frame.filename}, " if not Path(frame.filename).is_absolute() else ""
            lines.append(f"in {place}{frame.name}, line {frame.lineno}: {source}")
    if isinstance(error, SyntaxError):
        lines.append(f"in {error.filename}, line {error.lineno}: {(error.text or '').strip()}")
    text = (error.msg if isinstance(error, SyntaxError) else str(error)).strip()
    return "\n".join([f"{type(error).__name__}: {text}" if text else type(error).__name__, *lines[-4:]])


def own(filename: str) -> bool:
    """Whether a line of that file is the learner's: neither ours nor a library's."""
    path = Path(filename)
    if filename.startswith("<"):
        return filename == "<stdin>"
    return not any(folder in path.parents for folder in (HERE, *LIBRARIES))
