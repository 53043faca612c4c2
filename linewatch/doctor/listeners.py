"""Who holds an address: from Linux's own tables in /proc, as far as this user may look."""

import os
from pathlib import Path

_LISTENING = "0A"  # TCP_LISTEN of tcp_states.h


def holder(port: int) -> tuple[int, str] | None:
    """Process that listens on a TCP port, as its id and command line; None: nobody, or one that is hidden from us."""
    inodes = _inodes(port)
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and inodes & _sockets(process / "fd"):
            return int(process.name), _command(process)
    return None


def _inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not os.path.exists(table):  # noqa: PTH110 - an IPv6 that was switched off
            continue
        for row in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            columns = row.split()
            if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{columns[9]}]")
    return found


def _sockets(files: Path) -> set[str]:
    found = set()
    try:
        for file in files.iterdir():
            found.add(os.readlink(file))  # noqa: PTH115 - `socket:[4]` is no path
    except OSError:
        return found  # another user's, or gone meanwhile: it keeps its secret
    return found


def _command(process: Path) -> str:
    try:
        words = process.joinpath("cmdline").read_bytes().split(b"\0")
    except OSError:
        return "a process that has just ended"
    return b" ".join(words).decode(errors="replace").strip()[:120]
