"""Tables for people."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

_FILE_WIDTH = 300
"""Columns where the output is a file or a pipe, which has no edge to wrap at."""


def wide_console() -> Console:
    """Where plain text goes that is not to be cut: a terminal as it is, anything else wide enough for a table."""
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    return console


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows of plain text under headings."""
    table = Table(*headings, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(str, row))
    wide_console().print(table)
