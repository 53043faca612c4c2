"""Addresses to serve at, Redis, and other hosts' clocks."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from linewatch.config import Config
from linewatch.datafolder import owner
from linewatch.doctor.listeners import holder
from linewatch.findings import Finding, Grade, bad, good, note
from linewatch.freeport import port_finding
from storage.captures import Captures
from storage.errors import StorageError
from storage.server import connect, find_binary, socket_path
from storage.unavailable import mapped
from storage.workers import Workers

_TESTED = (6, 2)
_SKEW_S, _WRONG_S = 0.1, 5.0
_BEAT_S = 15.0


def ports(config: Config) -> Iterator[Finding]:
    """Addresses that the configuration serves at: free, ours already, or somebody else's."""
    wanted = [] if config.alerts.page is None else [("page", config.alerts.page.bind)]
    binds = [(f"worker {worker.name}", config.bind(worker.name)) for worker in config.workers]
    wanted += [(subject, bind.removeprefix("tcp://")) for subject, bind in binds if bind.startswith("tcp://")]
    for subject, address in wanted:
        finding = port_finding(subject, address)
        other = holder(int(address.rpartition(":")[2])) if finding.grade is Grade.BAD else None
        if other is None:
            yield finding
        elif "linewatch" in other[1]:
            yield good(subject, f"{address} is served by linewatch (process {other[0]})")
        else:
            yield bad(subject, f"{address} is held by process {other[0]}: {other[1]}", "stop it, or take another port")


def store(config: Config) -> Iterator[Finding]:
    """Redis: its program or server, its settings, its clock and those of workers and captures."""
    if config.redis == "embedded":
        try:
            yield good("redis-server", find_binary())
        except StorageError as error:
            yield bad("redis-server", str(error), "needed for `redis: embedded`")
        try:
            socket_path(config.data).stat()
        except FileNotFoundError:
            yield _not_running(config.data)
            return
        except OSError as error:
            yield _hidden(config.data, error)
            return
    client = connect(config.storage)
    try:
        with mapped(client):
            yield from _answering(client, embedded=config.redis == "embedded")
        yield from _other_clocks(config, client)
    except StorageError as error:
        yield (
            _embedded_silent(config.data, error)
            if config.redis == "embedded"
            else bad("redis", str(error), "start it, or correct `redis:`")
        )
    finally:
        client.close()


def _embedded_silent(data: Path, error: StorageError) -> Finding:
    """What it means that the embedded server, whose socket is there, does not serve: by what was heard instead."""
    heard = error.__cause__
    if isinstance(heard, BusyLoadingError):
        return note("redis", f"embedded, {error}", f"{_log(data)} says how far it is")
    if isinstance(heard, RedisTimeout):
        mend = f"`linewatch up` replaces one that hangs; if none runs, end this redis-server; {_log(data)} may say why"
        return bad("redis", "embedded, hangs: it takes connections and does not answer", mend)
    if isinstance(heard, RedisConnectionError):
        return _not_running(data)  # a socket that a killed one left
    return bad("redis", f"embedded, {error}", f"{_log(data)} may say more")


def _not_running(data: Path) -> Finding:
    try:
        pid = owner(data)
    except OSError as error:
        return _hidden(data, error)
    if pid is None:
        return good("redis", "embedded, not running now")
    text = f"embedded, does not run although process {pid} uses {data}"
    return bad("redis", text, f"if that has just been started, look again; {_log(data)} says why it ended")


def _hidden(data: Path, error: OSError) -> Finding:
    text = f"embedded; whether it runs cannot be seen in {data}: {error.strerror}"
    return note("redis", text, "run doctor as linewatch's user")


def _log(data: Path) -> Path:
    return data / "redis" / "redis.log"


def _answering(client: redis.Redis, *, embedded: bool) -> Iterator[Finding]:
    took, skews = [], []
    for _ in range(5):
        began, before = time.perf_counter(), time.time()
        seconds, micros = client.time()
        round_s = time.perf_counter() - began
        took.append(round_s)
        skews.append(seconds + micros / 1e6 - before - round_s / 2)
    info = client.info()
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    text = f"{info['redis_version']}, answers in {1000 * statistics.median(took):.1f} ms"
    if version < _TESTED:
        yield note("redis", text, f"use {_TESTED[0]}.{_TESTED[1]} or newer: older ones are not tested")
    else:
        yield good("redis", text)
    if not embedded:
        yield from _settings(info)
    yield _skew("redis clock", statistics.median(skews), give_s=max(took) / 2)


def _settings(info: dict[str, object]) -> Iterator[Finding]:
    """What an administrator may have set so that verdicts are lost; the embedded server is started right."""
    if info.get("aof_enabled"):
        yield good("redis durability", "appendonly is on")
    else:
        mend = "CONFIG SET appendonly yes, and in redis.conf: `appendonly yes`, `appendfsync always`"
        yield bad("redis durability", "appendonly is off: a restart loses verdicts that were acknowledged", mend)
    policy, limit = info.get("maxmemory_policy", "unknown"), info.get("maxmemory", 0)
    text = f"maxmemory-policy {policy}, maxmemory {info.get('maxmemory_human', limit)}"
    if policy != "noeviction":
        yield bad("redis memory", f"{text}: it may throw verdicts away", "set `maxmemory-policy noeviction`")
    else:
        yield good("redis memory", text)


def _skew(subject: str, skew_s: float, *, give_s: float) -> Finding:
    text = f"{abs(skew_s) * 1000:.0f} ms {'ahead of' if skew_s > 0 else 'behind'} this machine's"
    mend = "run an NTP client on both: latencies and ages are differences of two clocks"
    if abs(skew_s) > _WRONG_S:
        return bad(subject, text, mend)
    if abs(skew_s) > _SKEW_S + give_s:
        return note(subject, text, mend)
    return good(subject, text)


def _other_clocks(config: Config, client: redis.Redis) -> Iterator[Finding]:
    """Of those who beat every second: what is older than that is late or lags, what lies ahead has a wrong clock."""
    workers, captures = Workers(client).all(), Captures(client).all()
    with mapped(client):
        seconds, micros = client.time()
    now_s = seconds + micros / 1e6
    told = [(f"worker {worker.name}", workers.get(worker.name)) for worker in config.workers]
    told += [(f"capture {line.id}", captures.get(line.id)) for line in config.lines]
    for subject, info in told:
        if info is None:
            continue  # never ran
        age_s = now_s - int(info.get("wall_ns", 0)) / 1e9
        if age_s < -_SKEW_S:
            text = f"its clock is {-age_s:.1f} s ahead of Redis's"
            yield (bad if age_s < -_WRONG_S else note)(subject, text, "run an NTP client on its host")
        elif age_s > _BEAT_S:
            text = f"last heard of {_span(age_s)} ago, by its own clock"
            yield note(subject, text, "not running, or its clock is behind: start it, run an NTP client on its host")
        else:
            yield good(subject, f"last heard of {max(age_s, 0):.1f} s ago")


def _span(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 600
        else f"{seconds / 60:.0f} min"
        if seconds < 36_000
        else f"{seconds / 3600:.0f} h"
    )
