"""A progress bar on stderr, for a person at a terminal; a pipe or a log sees nothing of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from inference.training.report import Report, silent

_PATIENCE_S = 0.5  # what is done sooner needs no bar


@contextmanager
def progress_bar() -> Iterator[Report]:
    """Give a reporter whose reports become one bar per kind of work."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield silent
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True)
    tasks: dict[str, TaskID] = {}
    began = time.monotonic()

    def report(what: str, done: int, total: int, note: str = "", /) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total, description=f"{what} ({note})" if note else what)
        if not bar.live.is_started and time.monotonic() - began > _PATIENCE_S:
            bar.start()

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()
