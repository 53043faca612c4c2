"""Tables for people."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

_FILE_WIDTH = 300
"""Columns where the output is a file or a pipe, which has no edge to wrap at."""


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows of plain text under headings."""
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    table = Table(*headings, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)
