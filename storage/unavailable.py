"""Where exceptions of redis become ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis import exceptions

from storage.errors import StorageError, StoreUnavailable

# What a server says when it cannot serve now, and what to do about it.
_MENDS = {
    "LOADING": "it is reading its data back: wait",
    "OOM": "its memory is full: raise `maxmemory`, or start the alert service so that read verdicts are trimmed",
    "MISCONF": "it cannot write to its disk: free some room there",
    "READONLY": "it is a replica: let `redis:` name the primary",
    "NOREPLICAS": "too few replicas follow it: bring them back",
    "MASTERDOWN": "its primary is gone: bring it back",
    "CLUSTERDOWN": "its cluster is incomplete: bring the missing nodes back",
    "TRYAGAIN": "its cluster is moving keys: wait",
    "BUSY": "a script of another client blocks it: wait, or `redis-cli script kill`",
    "NOAUTH": "it does not take this user and password: correct `redis:`",
    "NOPERM": "this user may not do that: widen its ACL",
}
# Redis's client cuts the code off the message where it has a class for it.
_CODES: dict[type[exceptions.RedisError], str] = {
    exceptions.BusyLoadingError: "LOADING",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.TryAgainError: "TRYAGAIN",
    exceptions.AuthenticationError: "NOAUTH",
    exceptions.NoPermissionError: "NOPERM",
}


def address(client: redis.Redis) -> str:
    """Where a client's server is, without user and password."""
    where = client.connection_pool.connection_kwargs
    if "path" in where:
        return f"unix://{where['path']}"
    scheme = "rediss" if issubclass(client.connection_pool.connection_class, redis.SSLConnection) else "redis"
    return f"{scheme}://{where.get('host', 'localhost')}:{where.get('port', 6379)}/{where.get('db') or 0}"


@contextmanager
def mapped(client: redis.Redis) -> Iterator[None]:
    """Turn what redis raises into storage errors.

    Raises:
        StoreUnavailable: the server cannot be reached or cannot serve now; calling again later may work.
        StorageError: the server will refuse this each time.
    """
    try:
        yield
    except exceptions.RedisError as exc:
        mend = _MENDS.get(_code(exc))
        if mend is not None:
            raise StoreUnavailable(f"{address(client)}: {mend}") from exc
        if isinstance(exc, exceptions.ConnectionError | exceptions.TimeoutError):
            raise StoreUnavailable(f"{address(client)} does not answer ({exc}): start it, or correct `redis:`") from exc
        raise StorageError(f"{address(client)} refuses ({exc}): use Redis 6.2 or newer, for linewatch alone") from exc


def _code(exc: exceptions.RedisError) -> str:
    for kind, code in _CODES.items():
        if isinstance(exc, kind):
            return code
    # What a script ran into stands somewhere in its message: `... @user_script:1: -OOM command not allowed ...`.
    words = str(exc).replace("-", " ").split()
    return next((word for word in words if word in _MENDS), "")
