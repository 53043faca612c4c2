"""How training and evaluation tell a person how far they are, without knowing who listens."""

from typing import Protocol


class Report(Protocol):
    """Told what is being done, images done and images in total, and what else is worth knowing (a loss)."""

    def __call__(self, what: str, done: int, total: int, note: str = "", /) -> None: ...


def silent(what: str, done: int, total: int, note: str = "", /) -> None:
    """Tell nobody."""
