"""A role that no `linewatch up` supervises watches itself.

It runs alone in a container, as a systemd unit, on a camera's host. A loop that makes no progress ends the process, and
whoever keeps it running starts it again: they would not notice, since a process whose loop is stuck still exists. (One
that is stopped as a whole notices nothing either.)
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from linewatch.progress import VARIABLE, Page, Progress
from linewatch.silence import Patience, Silence

HUNG = 70
"""Exit code, as of a worker whose detector hangs."""
_LOOK_S = 0.5

log = structlog.get_logger()


@contextmanager
def watched(patience: Patience, stop: threading.Event) -> Iterator[Progress]:
    """Tell a role's progress to its supervisor, or to a thread that ends this process, for the length of a `with`.

    Args:
        patience: how long a loop may be silent.
        stop: set once the role is to end; from then on it is not watched, as by a supervisor.
    """
    over = threading.Event()
    if VARIABLE not in os.environ:
        page = Page()
        os.environ[VARIABLE] = str(os.dup(page.file))
        threading.Thread(target=_watch, args=(page, patience, stop, over), name="selfwatch", daemon=True).start()
    try:
        yield Progress.open()
    finally:
        over.set()


def _watch(page: Page, patience: Patience, stop: threading.Event, over: threading.Event) -> None:
    silence = Silence(patience.start_s, patience.silent_s)
    while not over.wait(_LOOK_S) and not stop.is_set():
        why = silence.look(page.look(), time.monotonic())
        if why is not None:
            log.critical("hangs, ends itself", why=why)
            os._exit(HUNG)
