"""The stream of golden samples' results: workers add, the alert service reads from where its history ends."""

import redis
from pydantic import ValidationError

from storage import keys
from storage.errors import StorageError
from storage.records import Challenge
from storage.unavailable import mapped

Entry = tuple[str, Challenge]
"""Id in the stream (the cursor after it) and challenge."""

KEPT = 10_000
"""Results left in the stream; the history keeps them all."""


class ChallengeStream:
    """The results of all lines in the order they were stored."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def add(self, *challenges: Challenge) -> list[str]:
        """Append results, all or none. Returns their ids in the stream.

        Raises:
            StoreUnavailable: add them again later.
        """
        if not challenges:
            return []
        with mapped(self._client), self._client.pipeline(transaction=True) as pipe:
            for challenge in challenges:
                pipe.xadd(keys.CHALLENGES, {"c": challenge.model_dump_json()}, maxlen=KEPT, approximate=False)
            return [str(name) for name in pipe.execute()]

    def read(self, after: str, *, count: int = 256) -> list[Entry]:
        """Read what follows the entry `after`.

        Args:
            after: id of the last entry that was dealt with; "0" from the start.
            count: most entries to return.

        Raises:
            StoreUnavailable: read again later, from the same entry.
            StorageError: an entry is no challenge of this version.
        """
        with mapped(self._client):
            found = self._client.xrange(keys.CHALLENGES, min=f"({after}", count=count)
        return [_entry(entry) for entry in found or []]

    def newest(self) -> str:
        """Id of the newest entry; "0" when there is none.

        Raises:
            StoreUnavailable: ask again later.
        """
        with mapped(self._client):
            found = self._client.xrevrange(keys.CHALLENGES, count=1)
        return str(found[0][0]) if found else "0"


def _entry(entry: tuple[bytes | str | None, dict[bytes | str, bytes | str] | None]) -> Entry:
    name, fields = str(entry[0]), entry[1] or {}
    try:
        return name, Challenge.model_validate_json(fields.get("c", ""))
    except ValidationError as exc:
        raise StorageError(
            f"entry {name} of {keys.CHALLENGES} is no golden sample's result of this version: "
            f"look at it, then remove it with `redis-cli XDEL '{keys.CHALLENGES}' {name}`"
        ) from exc
