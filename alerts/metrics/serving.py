"""`GET /metrics` of the page's server: what Prometheus scrapes."""

import threading
import time

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from alerts.metrics.collector import SiteCollector

PATH = "/metrics"
_FRESH_S = 1.0
"""However many scrape, the sources are read and written out at most this often."""


class Exposition:
    """The text of all metrics, made once for all who ask within a second.

    Args:
        collector: reads them.
    """

    def __init__(self, collector: SiteCollector) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(collector)
        self._lock = threading.Lock()
        self._text, self._made = b"", -_FRESH_S

    def text(self) -> bytes:
        """Prometheus' text format. Does I/O: not for an event loop."""
        with self._lock:
            now = time.monotonic()
            if now - self._made >= _FRESH_S:
                self._text, self._made = generate_latest(self._registry), now
            return self._text


def add_metrics(app: FastAPI, collector: SiteCollector) -> None:
    """Serve the metrics of a site.

    Args:
        app: gets one more address, `/metrics`.
        collector: reads them.
    """
    exposition = Exposition(collector)

    @app.get(PATH, include_in_schema=False)
    def metrics() -> Response:
        return Response(exposition.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
