"""Serves the page and the API from a thread of the alert service."""

import errno
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI

from alerts.errors import PageError

log = structlog.get_logger()

_START_S = 60.0
_STOP_S = 5


class PageServer:
    """One uvicorn on one socket.

    Args:
        app: what is served.
        bind: `HOST:PORT`; port 0 takes a free one.
        url_file: where the address is written, for whoever wants to open it.
        proxies: addresses or networks of reverse proxies that are believed when they say who asks, and over what.
    """

    def __init__(self, app: FastAPI, *, bind: str, url_file: Path, proxies: Sequence[str] = ()) -> None:
        self._bind = bind
        self._url_file = url_file
        # A browser that keeps its connection open must not hold up the end of the service.
        settings = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="on",
            ws_max_size=2**20,
            timeout_graceful_shutdown=1,
            server_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=list(proxies),
        )
        self._server = uvicorn.Server(settings)
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Bind, serve, and return the address once it answers.

        Raises:
            PageError: the address is taken, not ours, or the page does not come up.
        """
        listener = self._listen()
        host, port = listener.getsockname()[:2]
        url = f"http://{'localhost' if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104 - compared, not bound
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="page", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                listener.close()
                raise PageError(f"the page at {url} does not come up: the log says why")
            time.sleep(0.02)
        scratch = self._url_file.with_suffix(".new")
        scratch.write_text(url + "\n")
        scratch.replace(self._url_file)
        log.info("the page is served", url=url)
        return url

    def stop(self) -> None:
        """Close the page; open browsers see that it is gone and reconnect to the next one."""
        self._url_file.unlink(missing_ok=True)
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_STOP_S)

    def _listen(self) -> socket.socket:
        host, _, port = self._bind.rpartition(":")
        if int(port) > 65535:
            raise PageError(f"page: {self._bind}: there is no port {port}: write 0 to 65535")
        try:
            return socket.create_server((host, int(port)), backlog=128)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                mend = (
                    "another program serves there: stop it, or let `alerts.page.bind` name another port (0: a free one)"
                )
            elif error.errno == errno.EACCES:
                mend = "this user may not serve there: choose a port above 1023"
            else:
                mend = f"{error.strerror}: name an address of this machine"
            raise PageError(f"page: {self._bind}: {mend}") from error
