"""Exercises that check themselves: `from exercises import check; check("1.2")`."""

from .case import Mistake
from .learner import check

__all__ = ["Mistake", "check"]
