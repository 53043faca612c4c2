"""Waking a poller from another thread."""

import os
from contextlib import suppress


class WakePipe:
    """A pipe whose reading end can be polled beside ZeroMQ sockets."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """What to poll for reading."""
        return self._read

    def set(self) -> None:
        """Wake the poller; from any thread. A pipe that is full already wakes it just as well."""
        with suppress(BlockingIOError):
            os.write(self._write, b"x")

    def clear(self) -> None:
        """Forget earlier calls of `set`; by the poller, before it looks for work."""
        with suppress(BlockingIOError):
            while len(os.read(self._read, 4096)) == 4096:
                pass

    def close(self) -> None:
        """Release both ends."""
        os.close(self._read)
        os.close(self._write)
