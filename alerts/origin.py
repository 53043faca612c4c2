"""Whether a request comes from our own page, as far as a browser says: pure functions of its headers.

A browser adds `Sec-Fetch-Site` and `Origin` by itself, and no page can change them. A program that is no browser sends
neither; it has no cookies that somebody could abuse either.
"""

import ipaddress
import re
import socket
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

_LOCAL_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")  # printable ASCII without a backslash, which browsers read as /
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def is_safe(method: str) -> bool:
    """Whether a request of this method changes nothing (RFC 9110, 9.2.1)."""
    return method in _SAFE


def foreign(headers: Mapping[str, str]) -> str | None:
    """Name whose page a browser says it is that sends this; None: ours, or nobody says.

    Args:
        headers: of a request that changes something, or of a websocket's handshake.
    """
    origin = headers.get("origin")
    if origin is not None and (urlsplit(origin).netloc.lower() or origin) != headers.get("host", "").lower():
        return f"a page of {origin[:100]}"
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return "a page of another site"
    return None


def host_of(headers: Mapping[str, str]) -> str:
    """Name in the Host header, without port, lower case; of IPv6 without brackets."""
    return (urlsplit(f"//{headers.get('host', '')}").hostname or "").rstrip(".")


def answers_to(host: str, *, names: Collection[str]) -> bool:
    """Whether we are called by a name of ours, and not by one that somebody else lets point here (DNS rebinding).

    Args:
        host: of `host_of`.
        names: by which we are known besides `localhost`, this machine's name, and any address.
    """
    mine = socket.gethostname().lower()
    return _is_address(host) or host in {"localhost", mine, f"{mine}.local"} or host in {name.lower() for name in names}


def local_path(text: str | None) -> str:
    """A path of this site to go on to; `/` for anything else that was asked for."""
    return text if text and _LOCAL_PATH.fullmatch(text) else "/"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
