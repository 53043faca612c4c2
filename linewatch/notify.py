"""Tells systemd how `linewatch up` is: ready, still turning, stopping (sd_notify(3)).

Without systemd, that is without NOTIFY_SOCKET, it says nothing.
"""

import os
import socket

import structlog

log = structlog.get_logger()


class Notifier:
    """Speaks to the service manager that started this process, and to nobody in the name of its children."""

    def __init__(self) -> None:
        # Taken out: a child that inherited the address could say that all is well.
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        os.environ.pop("WATCHDOG_USEC", None)
        os.environ.pop("WATCHDOG_PID", None)
        self._ready = self._in_trouble = False

    def turn(self) -> None:
        """Note a turn of the main loop; the first one says that the service is up."""
        self._tell("WATCHDOG=1" if self._ready else "READY=1\nWATCHDOG=1")
        self._ready = True

    def stopping(self) -> None:
        """Note that the end has begun; safe in a signal handler."""
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        name = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address  # abstract, unix(7)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as told:
                told.sendto(message.encode(), name)
        except OSError as error:
            if not self._in_trouble:  # said once, not twice a second
                log.warning("systemd does not listen", said=message, error=str(error))
            self._in_trouble = True
        else:
            self._in_trouble = False
