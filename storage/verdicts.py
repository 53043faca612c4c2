"""The stream of verdicts: read from a cursor, so that a reader that was away finds all it has missed."""

import time

import redis
from pydantic import ValidationError

from storage import keys
from storage.errors import StorageError
from storage.records import Verdict
from storage.scripting import Call, Script
from storage.unavailable import mapped

Entry = tuple[str, Verdict]
"""Id in the stream (the cursor after it) and verdict."""

_TRIM = Script("trim.lua")
_TRIM_CHUNK = 1000
_PAGE = 500
_MOST_SEARCHED = 20_000
_MOST_BLOCKED_MS = 1000  # well below the client's time-out


class VerdictStream:
    """The verdicts of all lines in the order they were stored."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def read(self, after: str, *, count: int = 256, block_ms: int = 0) -> list[Entry]:
        """Read what follows the entry `after`.

        Args:
            after: id of the last entry that was dealt with; "0" from the start.
            count: most entries to return.
            block_ms: when there is nothing, wait this long for something; 0: do not wait.

        Raises:
            StoreUnavailable: read again later, from the same entry.
            StorageError: an entry is no verdict of this version.
        """
        deadline = time.monotonic() + block_ms / 1000
        while True:
            with mapped(self._client):
                found = self._client.xrange(keys.VERDICTS, min=f"({after}", count=count)
                left_ms = int((deadline - time.monotonic()) * 1000)
                if found or left_ms <= 0:
                    return [_entry(entry) for entry in found or []]
                self._client.xread({keys.VERDICTS: after}, count=1, block=min(left_ms, _MOST_BLOCKED_MS))

    def latest(self, count: int, line: str | None = None) -> list[Entry]:
        """Read the newest verdicts, newest first; of one line, as far as it is among the newest 20,000 of all.

        Raises:
            StoreUnavailable: ask again later.
            StorageError: an entry is no verdict of this version.
        """
        newest: list[Entry] = []
        end, searched = "+", 0
        while len(newest) < count and searched < _MOST_SEARCHED:
            with mapped(self._client):
                page = self._client.xrevrange(keys.VERDICTS, max=end, count=_PAGE if line else min(count, _PAGE))
            if not page:
                break
            entries = [_entry(entry) for entry in page]
            newest += [entry for entry in entries if line is None or entry[1].line == line]
            searched += len(entries)
            end = f"({entries[-1][0]}"
        return newest[:count]

    def trim(self, *, cursor: str, keep: int) -> None:
        """Remove the oldest verdicts, never one beyond the committed cursor and never one of the newest `keep`.

        Raises:
            StoreUnavailable: trim again later.
        """
        call: Call = ([keys.VERDICTS], [cursor, keep, _TRIM_CHUNK])
        while _TRIM.run(self._client, [call]) == [_TRIM_CHUNK]:
            pass


def _entry(entry: tuple[bytes | str | None, dict[bytes | str, bytes | str] | None]) -> Entry:
    name, fields = str(entry[0]), entry[1] or {}
    try:
        return name, Verdict.model_validate_json(fields.get("v", ""))
    except ValidationError as exc:
        raise StorageError(
            f"entry {name} of {keys.VERDICTS} is no verdict of this version: "
            f"look at it, then remove it with `redis-cli XDEL '{keys.VERDICTS}' {name}`"
        ) from exc
