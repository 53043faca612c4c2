"""Lua scripts: steps that happen in Redis as a whole or not at all."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoScriptError

from storage.unavailable import mapped

_FOLDER = Path(__file__).parent / "scripts"

Call = tuple[Sequence[str], Sequence[str | int]]
"""Keys and arguments of one call."""


class Script:
    """One script, put together from files in `storage/scripts/`."""

    def __init__(self, *files: str) -> None:
        self._text = "\n".join((_FOLDER / file).read_text(encoding="utf-8") for file in files)
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
        """Call the script once for each of `calls`, in order, in one round trip; the replies.

        Other clients may act between two calls, never within one. A server that does not know the script yet (its
        first call, or after a restart) costs another round trip.

        Raises:
            StoreUnavailable: the server does not answer; some of the calls may have happened.
        """
        with mapped(client):
            replies = self._send(client, calls)
            missed = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if missed:
                client.script_load(self._text)
                again = self._send(client, [calls[index] for index in missed])
                for index, reply in zip(missed, again, strict=True):
                    replies[index] = reply
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies

    def _send(self, client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
        with client.pipeline(transaction=False) as pipeline:
            for keys, arguments in calls:
                pipeline.evalsha(self._sha, len(keys), *keys, *arguments)
            return pipeline.execute(raise_on_error=False)
