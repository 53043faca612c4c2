"""How training and evaluation tell a person how far they are, without knowing who listens."""

from collections.abc import Callable

Report = Callable[[str, int, int], None]
"""Called with what is being done, images done and images in total."""


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""
