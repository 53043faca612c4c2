"""`GET /metrics` of the page's server: what Prometheus scrapes."""

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from alerts.metrics.collector import SiteCollector

PATH = "/metrics"


def add_metrics(app: FastAPI, collector: SiteCollector) -> None:
    """Serve the metrics of a site; no figure of it is kept between two scrapes but the counters of this process.

    Args:
        app: gets one more address, `/metrics`.
        collector: reads them.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)

    @app.get(PATH, include_in_schema=False)
    def metrics() -> Response:
        # Not an event loop's work: it asks Redis and the history.
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
