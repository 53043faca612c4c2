"""Whether each camera is reached: its name, a connection, one picture.

Each look has a time-out, and cameras are looked at side by side: twenty that are off take no longer than one.
"""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from ingest.sources.urls import redacted
from linewatch.config import Config, LineConfig
from linewatch.findings import Finding, bad, good
from linewatch.firstpicture import first_picture

CONNECT_S = 3.0
"""How long a name and a connection may take, each."""
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935}
_AT_ONCE = 16


def cameras(config: Config) -> Iterator[Finding]:
    """Name, connection and one picture of each line's source, in the order of the configuration."""
    with ThreadPoolExecutor(min(_AT_ONCE, len(config.lines)), thread_name_prefix="camera") as crew:
        yield from crew.map(camera, config.lines)


def camera(line: LineConfig) -> Finding:
    """Look at one source."""
    subject, shown = f"camera {line.id}", redacted(line.source)
    began = time.monotonic()
    parts = urlsplit(line.source)
    if parts.scheme in _PORTS:
        lost = _unreachable(parts.hostname or "", _port(line.source))
        if lost is not None:
            return bad(subject, f"{shown}: {lost[0]}", lost[1])
    taken = first_picture(line.source)
    if isinstance(taken, str):
        mend = "correct `source:`" + ("; try the same address in a player" if parts.scheme in _PORTS else "")
        return bad(subject, f"{shown}: {taken.removeprefix(f'{shown}: ')}", mend)
    height, width = taken.shape[:2]
    return good(subject, f"{shown} delivers {width}x{height}, the first picture after {time.monotonic() - began:.1f} s")


def _port(url: str) -> int:
    parts = urlsplit(url)
    try:
        return parts.port or _PORTS[parts.scheme]
    except ValueError:
        return 0  # no number, or none that there is: connecting says so


def _unreachable(host: str, port: int) -> tuple[str, str] | None:
    """Why a host cannot be reached, and what to do; None: it can."""
    found: list[str] = []
    pool = ThreadPoolExecutor(1)
    try:
        asked = pool.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = [str(row[4][0]) for row in asked.result(timeout=CONNECT_S)]
    except TimeoutError:
        return f"the name {host} is not answered within {CONNECT_S:g} s", "look at the DNS server in /etc/resolv.conf"
    except (OSError, UnicodeError) as error:
        return f"no address for {host!r}: {error}", "correct the name, or add it to /etc/hosts"
    finally:
        pool.shutdown(wait=False)
    try:
        socket.create_connection((host, port), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        why = f"within {CONNECT_S:g} s" if isinstance(error, TimeoutError) else f"({error})"
        mend = "look at its power, network and port, and at firewalls between"
        return f"no connection to {found[0]} port {port} {why}", mend
    return None
