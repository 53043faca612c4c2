"""What the supervisor of this service says of the processes beside it, for the page and the health check."""

import json
import os
from pathlib import Path
from typing import Any

_SICK = {"crash-loop": "ends again and again soon after its start", "hung": "makes no progress and does not end"}


class Processes:
    """Reads the supervisor's status file; says nothing where there is none, or another's.

    Args:
        status: `up.json` of the data folder.
    """

    def __init__(self, status: Path) -> None:
        self._status = status

    def ailments(self) -> list[str]:
        """Which processes do not stay up, one line each. Does I/O."""
        try:
            told = json.loads(self._status.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            return [f"{self._status}: cannot be read ({error}): what the other processes do is not known"]
        if told.get("pid") != os.getppid():  # left behind, or of a supervisor that is not ours
            return []
        processes = [*told.get("roles", ()), *([{**told["redis"], "role": "redis"}] if "redis" in told else ())]
        return [_said(process) for process in processes if process.get("state") in _SICK]


def _said(process: dict[str, Any]) -> str:
    exits = process.get("last_exit")
    last = "" if exits is None else f", the last time with {exit_words(exits)}"
    hang = f" ({process['last_hang']})" if process.get("last_hang") else ""
    restarts = process.get("restarts", 0)
    return f"{process['role']}: {_SICK[process['state']]}: started again {restarts} times{last}{hang}; its log says why"


def exit_words(code: int) -> str:
    """Say an exit code: negative ones are signals."""
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
