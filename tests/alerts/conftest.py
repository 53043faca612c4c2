"""The alert service as a real process, a receiver of webhooks, and verdicts to feed them."""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from alerts.config import AlertRules, AlertsConfig, SinkConfig
from storage.config import StorageConfig
from storage.records import Status, Verdict
from storage.server import RedisServer, connect

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "programs" / "serve.py"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


class Receiver(ThreadingHTTPServer):
    """Answers with `answers` first, then with 204."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.free = threading.Event()
        self.free.set()

    @property
    def keys(self) -> list[str]:
        return [headers["Idempotency-Key"] for _, headers, _ in self.got]

    def sink(self, path: str = "/hook", **fields: Any) -> SinkConfig:
        return SinkConfig(url=f"json://127.0.0.1:{self.server_port}{path}", **fields)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.server.free.wait(10)
        self.send_response(self.server.answers.pop(0) if self.server.answers else 204)
        self.end_headers()

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the sender was killed: what these tests are about
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.free.set()
        server.shutdown()
        thread.join(10)


@pytest.fixture
def storage(tmp_path: Path, redis_client: redis.Redis) -> StorageConfig:
    """A data folder of the test's own, and its database of the private Redis."""
    where = redis_client.connection_pool.connection_kwargs
    return StorageConfig(data=tmp_path / "data", redis=f"unix://{where['path']}?db={where['db']}")


class Service:
    """One alert service process after the other, over the same storage."""

    def __init__(self, config: AlertsConfig, rules: Mapping[str, AlertRules], storage: StorageConfig) -> None:
        self.storage = storage
        self._told = json.dumps(
            {
                "config": config.model_dump(mode="json"),
                "rules": {line: rule.model_dump(mode="json", by_alias=True) for line, rule in rules.items()},
                "storage": storage.model_dump(mode="json"),
            }
        )
        self._process: subprocess.Popen[bytes] | None = None
        storage.data.mkdir(exist_ok=True)
        self._log = storage.data / "log"
        self._log_start = 0

    def start(self) -> None:
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), self._told],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=self.storage.data,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ready(self) -> None:
        """Wait until the process that was started last serves: from then on SIGTERM is a polite request."""
        self.until(
            lambda: b"verdicts are followed" in self._log.read_bytes()[self._log_start :], "the service to begin"
        )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def terminate(self) -> int:
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(30)
        self._process = None
        return code

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(60)

    def until(self, true: Callable[[], object], what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert self._process is None or self._process.poll() is None, f"the service ended:\n{self.log}"
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{self.log}"
            time.sleep(0.02)

    def url(self) -> str:
        file = self.storage.data / "page.url"
        self.until(file.exists, "the page's address")
        return file.read_text().strip()


@pytest.fixture
def start_service(storage: StorageConfig) -> Iterator[Callable[..., Service]]:
    """start_service(config, rules) -> a running Service."""
    services: list[Service] = []

    def start(config: AlertsConfig, rules: Mapping[str, AlertRules], over: StorageConfig = storage) -> Service:
        services.append(Service(config, rules, over))
        services[-1].start()
        return services[-1]

    yield start
    for service in services:
        service.kill()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server the test may stop and start."""
    folder = Path(tempfile.mkdtemp(prefix="lw-", dir="/tmp"))
    try:
        with RedisServer(folder) as server:
            yield server
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def own_storage(tmp_path: Path, own_redis: RedisServer) -> StorageConfig:
    client = connect(StorageConfig(data=own_redis.folder.parent))
    path = client.connection_pool.connection_kwargs["path"]
    client.close()
    return StorageConfig(data=tmp_path / "data", redis=f"unix://{path}")


class Belt:
    """Makes the verdicts of one line, `per_s` a second of stream time."""

    def __init__(self, line: str = "a", *, per_s: float = 10.0, start_ns: int = 1_700_000_000_000_000_000) -> None:
        self.line = line
        self.run = f"{start_ns:016x}"
        self._numbers = itertools.count()
        self._step_ns = round(1e9 / per_s)
        self._start_ns = start_ns

    def verdict(self, status: str, **fields: Any) -> Verdict:
        seq = next(self._numbers)
        at_ns = self._start_ns + seq * self._step_ns
        judged = status != "unknown"
        given = {
            "line": self.line,
            "run": self.run,
            "seq": seq,
            "status": Status(status),
            "reason": None if judged else "late",
            "score": {"pass": 0.1, "reject": 0.9}.get(status),
            "threshold": 0.5 if judged else None,
            "model": "m@1" if judged else None,
            "captured_ns": at_ns,
            "judged_ns": at_ns,
        }
        return Verdict.model_validate({**given, **fields})

    def verdicts(self, *statuses: str) -> list[Verdict]:
        return [self.verdict(status) for status in statuses]


@pytest.fixture
def belt() -> Belt:
    return Belt()


@pytest.fixture
def make_belt() -> type[Belt]:
    return Belt
