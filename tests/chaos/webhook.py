"""The receiver of alerts: a real HTTP server that can be slow, or down."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.chaos.books import Told

SLOW_S = 2.5
"""Longer than the sink waits: the message has arrived, but its sender does not know."""


class Webhook:
    """Takes alerts and writes down each message, also those that come twice.

    Args:
        pictured: whether the evidence of this name is on the disk.
    """

    def __init__(self, pictured: Callable[[str], bool]) -> None:
        self.told: list[Told] = []
        self.mood = "ok"
        """`ok`, `slow` (takes it, answers late), or `down` (refuses)."""
        self.met = 0
        """Messages that came in another mood than `ok`."""
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def handle(self) -> None:
                with suppress(ConnectionResetError):  # its sender was killed
                    super().handle()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                mood = webhook.mood
                webhook.met += mood != "ok"
                if mood != "down":
                    webhook.take(self.headers["Idempotency-Key"], body, pictured)
                if mood == "slow":
                    time.sleep(SLOW_S)
                try:
                    self.send_response(503 if mood == "down" else 204)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # it was not waited for

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="webhook", daemon=True).start()
        self.url = f"json://127.0.0.1:{self._server.server_address[1]}/alerts"

    def take(self, key: str, body: str, pictured: Callable[[str], bool]) -> None:
        """Write one message down."""
        message = json.loads(body)
        alert = message["alert"]
        self.told.append(
            Told(
                key=key,
                body=body,
                alert=alert["id"],
                kind=alert["kind"],
                change=message["transition"],
                evidence=alert["evidence"],
                pictured=alert["evidence"] is not None and pictured(alert["evidence"]),
            )
        )

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
