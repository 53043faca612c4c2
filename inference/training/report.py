"""How training and evaluation tell a person how far they are, without knowing who listens."""

from typing import Protocol


class Report(Protocol):
    """Told how far the work is."""

    def __call__(self, what: str, done: int, total: int, note: str = "", /) -> None:
        """Take notice of what is being done, images done and in total, and what else is worth knowing (a loss)."""


def silent(what: str, done: int, total: int, note: str = "", /) -> None:
    """Tell nobody."""
