"""Alerts as HTTP POSTs of JSON, with an `Idempotency-Key` by which a repetition is recognised."""

from urllib.parse import urlsplit

import httpx

from alerts.config import SinkConfig
from alerts.errors import SinkError
from alerts.sinks.base import message, public_name
from storage.deliveries import Delivery


class Webhook:
    """Posts to `json://HOST[:PORT]/PATH` (http) or `jsons://…` (https). Any answer of 200 to 299 means taken."""

    def __init__(self, config: SinkConfig) -> None:
        url = urlsplit(config.url)
        self.name = public_name(url)
        scheme = "https" if url.scheme == "jsons" else "http"
        try:
            self._url = httpx.URL(url._replace(scheme=scheme).geturl())
        except httpx.InvalidURL as error:
            raise SinkError(f"sink {self.name}: {error}") from error
        self._timeout_s = config.timeout
        self._client: httpx.Client | None = None

    def deliver(self, delivery: Delivery) -> None:
        """Post one message and read the status of the answer.

        Raises:
            SinkError: no connection, no answer in time, or a status that is no success.
        """
        if self._client is None:
            self._client = httpx.Client(timeout=self._timeout_s)
        headers = {"Content-Type": "application/json", "Idempotency-Key": delivery.key}
        try:
            # Streamed: the status is all that matters, and a receiver that trickles a body must not hold us.
            with self._client.stream("POST", self._url, content=message(delivery), headers=headers) as response:
                if not response.is_success:
                    raise SinkError(f"sink {self.name} answered {response.status_code} {response.reason_phrase}")
        except httpx.HTTPError as error:
            raise SinkError(f"sink {self.name}: {error or type(error).__name__}") from error

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None
