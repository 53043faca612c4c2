"""Requests to show golden samples now: a counter per line that anybody counts up and every worker watches."""

from collections.abc import Sequence

import redis

from storage import keys
from storage.unavailable import mapped


class GoldenRequests:
    """The counters of requests."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def ask(self, line: str) -> int:
        """Ask all workers of a line; they answer on the stream of challenges. Returns the new count.

        Raises:
            StoreUnavailable: ask again later.
        """
        with mapped(self._client):
            return int(self._client.incr(keys.golden_request(line)))

    def counts(self, lines: Sequence[str]) -> dict[str, int]:
        """Line -> requests so far, in one round trip.

        Raises:
            StoreUnavailable: ask again later.
        """
        with mapped(self._client), self._client.pipeline(transaction=False) as pipeline:
            for line in lines:
                pipeline.get(keys.golden_request(line))
            return {line: int(count or 0) for line, count in zip(lines, pipeline.execute(), strict=True)}
