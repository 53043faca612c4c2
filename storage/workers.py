"""Heartbeats of workers, for people and for the page."""

import json
from typing import Any

import redis

from storage import keys
from storage.unavailable import mapped


class Workers:
    """The last heartbeat of each worker."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def record(self, name: str, info: dict[str, Any]) -> None:
        """Keep the heartbeat of worker `name`; `info` is anything JSON can hold.

        Raises:
            StoreUnavailable: record the next one.
        """
        with mapped(self._client):
            self._client.hset(keys.WORKERS, name, json.dumps(info, allow_nan=False))

    def all(self) -> dict[str, dict[str, Any]]:
        """Name -> last heartbeat, by name; a worker that is gone stays until `forget`.

        Raises:
            StoreUnavailable: ask again later.
        """
        with mapped(self._client):
            found = self._client.hgetall(keys.WORKERS)
        return {str(name): json.loads(info) for name, info in sorted(found.items(), key=str)}

    def forget(self, name: str) -> None:
        """Remove a worker that will not come back.

        Raises:
            StoreUnavailable: ask again later.
        """
        with mapped(self._client):
            self._client.hdel(keys.WORKERS, name)
