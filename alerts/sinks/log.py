"""Alerts in the log: always there, for a machine without a network."""

import json

import structlog

from alerts.config import SinkConfig
from storage.deliveries import Delivery
from storage.records import Change

log = structlog.get_logger()


class LogSink:
    """Writes one log line a transition; `log:`."""

    def __init__(self, config: SinkConfig) -> None:
        del config
        self.name = "log"

    def deliver(self, delivery: Delivery) -> None:
        """Write the line; a raise is a warning."""
        alert = json.loads(delivery.payload)["alert"]
        write = log.warning if delivery.change is Change.RAISED else log.info
        shown = {
            name: alert[name]
            for name in ("verdict", "line", "kind", "text", "count", "evidence")
            if alert[name] is not None
        }
        write(f"alert {delivery.change}", alert=delivery.alert, **shown)

    def close(self) -> None:
        """Nothing to let go of."""
