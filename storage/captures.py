"""What each capture last told of its queues, for people and for metrics."""

import json
from typing import Any

import redis

from storage import keys
from storage.unavailable import mapped


class Captures:
    """The last figures of each line's capture."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def record(self, line: str, figures: dict[str, Any]) -> None:
        """Keep what the capture of `line` tells; `figures` is anything JSON can hold.

        Raises:
            StoreUnavailable: record the next one.
        """
        with mapped(self._client):
            self._client.hset(keys.CAPTURES, line, json.dumps(figures, allow_nan=False))

    def all(self) -> dict[str, dict[str, Any]]:
        """Line -> last figures, by name.

        Raises:
            StoreUnavailable: ask again later.
        """
        with mapped(self._client):
            found = self._client.hgetall(keys.CAPTURES)
        return {str(line): json.loads(figures) for line, figures in sorted(found.items(), key=str)}
