"""How the children of `up` notice that it is gone, however it went.

Each child's standard input is a pipe whose other end only the supervisor holds. When the supervisor dies, by whatever
signal, the kernel closes it and the child reads the end of the file. Unlike Linux's PR_SET_PDEATHSIG this works on
every Unix, needs no code between fork and exec, and cannot be missed by a child that starts late.
"""

import os
import signal
import sys
import threading
import time

VARIABLE = "LINEWATCH_LIFELINE"
"""Set in the environment of a child whose standard input is a lifeline."""
_OFFERED, _HELD = "1", "held"
_GRACE_S = 20.0


def hold() -> None:
    """Be stopped (SIGTERM) when the supervisor is gone; does nothing in a process that has none."""
    if os.environ.get(VARIABLE) == _OFFERED:
        os.environ[VARIABLE] = _HELD  # a process that this one starts has another standard input
        threading.Thread(target=_watch, name="lifeline", daemon=True).start()


def held() -> bool:
    """Whether this process has a supervisor."""
    return os.environ.get(VARIABLE) == _HELD


def _watch() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(1)  # did not heed the signal: better gone than a second writer beside the next supervisor's child
