"""How far the work is: a bar on stderr for a person at a terminal, a line a minute for a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from inference.training.report import Report

_PATIENCE_S = 0.5  # what is done sooner needs no bar
_LINE_S = 60.0

log = structlog.get_logger()


@contextmanager
def progress_bar() -> Iterator[Report]:
    """Give a reporter whose reports become one bar per kind of work, or lines of a log."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    note_column = TextColumn("{task.fields[note]}", markup=False)  # last: its changing length moves nothing else
    bar = Progress(*columns, note_column, console=console, transient=True)
    tasks: dict[str, TaskID] = {}
    began = time.monotonic()

    def report(what: str, done: int, total: int, note: str = "", /) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total, note=note)
        bar.update(tasks[what], completed=done, total=total, note=note)
        if not bar.live.is_started and time.monotonic() - began > _PATIENCE_S:
            bar.start()

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()


class _Lines:
    """A sign of life at most once a minute; work that is done sooner says nothing."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, what: str, done: int, total: int, note: str = "", /) -> None:
        now = time.monotonic()
        if now - self._said >= _LINE_S:
            self._said = now
            log.info(what, done=done, of=total, **({"about": note} if note else {}))
