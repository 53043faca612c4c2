"""Whether an address can be served at."""

import socket

from linewatch.findings import Finding, bad, good


def port_finding(subject: str, address: str) -> Finding:
    """Try to bind `HOST:PORT` for a moment."""
    host, _, port = address.rpartition(":")
    host = "" if host == "*" else host.strip("[]")
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return bad(subject, f"{address}: {why}", "stop what listens there, or take another port")
    return good(subject, f"{address} is free")
