"""What a sink is: somewhere an alert is told."""

import json
from typing import Protocol
from urllib.parse import SplitResult

from alerts.errors import SinkError
from storage.deliveries import Delivery


class Sink(Protocol):
    """One receiver. A delivery may come twice (after a crash, or when an answer was lost); its key is then the same."""

    name: str
    """For people and for the outbox: the url without user, password and query."""

    def deliver(self, delivery: Delivery) -> None:
        """Hand one message over and wait until the receiver has it.

        Raises:
            SinkError: it was not taken; it will be tried again.
        """
        ...

    def close(self) -> None:
        """Let go of connections. A later `deliver` opens new ones."""
        ...


def message(delivery: Delivery) -> bytes:
    """Write what a receiver gets, JSON: `key`, `transition` (raised, cleared, acknowledged), `at_ns`, `alert`."""
    told = json.loads(delivery.payload)
    return json.dumps(
        {"key": delivery.key, "transition": told["change"], "at_ns": told["at_ns"], "alert": told["alert"]}
    ).encode()


def public_name(url: SplitResult) -> str:
    """Name a sink without its secrets."""
    return f"{url.scheme}://{address(url)}{url.path}"


def address(url: SplitResult) -> str:
    """Give `host` or `host:port`.

    Raises:
        SinkError: there is no host, or the port is no number.
    """
    try:
        host, port = url.hostname, url.port
    except ValueError as error:
        raise SinkError(f"sink {url.scheme}://{url.netloc.rpartition('@')[2]}: {error}") from error
    if not host:
        raise SinkError(f"sink {url.scheme}: names no host: write {url.scheme}://HOST[:PORT]/…")
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"
