"""What `linewatch doctor` finds: real ports, real servers, real files."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from linewatch.config import Config, load
from linewatch.datafolder import claim
from linewatch.doctor import cameras, reach
from linewatch.doctor.belongings import belongings
from linewatch.doctor.checklist import show
from linewatch.doctor.diagnose import diagnose
from linewatch.doctor.listeners import holder
from linewatch.doctor.machine import machine
from linewatch.findings import Finding, Grade, bad, good, note
from storage.captures import Captures
from storage.server import RedisServer, socket_path
from storage.workers import Workers


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "linewatch.yaml"


def config(where: Path, text: str = "", *, source: str = "synthetic:belt", page: str = "null") -> Config:
    line = f"lines: [{{id: a, source: '{source}', model: m}}]"
    where.write_text(f"data: var/\n{line}\nalerts: {{page: {page}}}\n{text}")
    return load(where)


WITHOUT_PRIVILEGES = """
import ctypes, struct, sys
# Of all capabilities, those that let root look into everybody's folders among them: capset(2), version 3.
if ctypes.CDLL(None).capset(struct.pack("Ii", 0x20080522, 0), bytes(24)) != 0:
    sys.exit("capset fails")
from linewatch.cli import main
sys.exit(main(sys.argv[1:]))
"""


def by_subject(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def test_each_finding_that_is_not_good_says_what_to_do(where: Path) -> None:
    found = list(diagnose(config(where), where))
    assert len(found) > 12
    assert [finding.subject for finding in found if finding.grade is not Grade.GOOD and not finding.mend] == []


def test_columns_and_json_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    found = [good("disk", "12 GB"), note("clock", "x " * 150, "run NTP"), bad("port", "taken", "stop it")]
    assert show(iter(found)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok   disk                 12 GB"
    assert lines[1].startswith("note clock                x x")
    assert lines[2].startswith(" " * 26 + "x"), "a long text goes on in its column"
    assert lines[-3:] == [" " * 26 + "-> stop it", "", "3 looked at: 1 ok, 1 note, 1 BAD"]
    assert [line for line in lines if line != line.rstrip()] == []
    assert show(iter(found), as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert told[2] == {"subject": "port", "grade": "BAD", "text": "taken", "mend": "stop it"}
    assert show(iter(found[:2])) == 0, "a note is no failure"


def test_a_taken_port_names_who_holds_it(where: Path) -> None:
    hold = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1]); sys.stdin.read()"
    command = [sys.executable, "-c", hold]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        found = by_subject(reach.ports(config(where, page=f"{{bind: '127.0.0.1:{port}'}}")))
        assert found["page"].grade is Grade.BAD
        assert f"is held by process {other.pid}: " in found["page"].text
        other.communicate("")
    assert holder(port) is None
    assert reach.ports(config(where, page=f"{{bind: '127.0.0.1:{port}'}}")).__next__().grade is Grade.GOOD


@contextmanager
def listening(answer: bytes) -> Iterator[int]:
    """Takes one connection after the other, answers and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                connection, _ = server.accept()
                with connection:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        stop.set()
        socket.create_connection(server.getsockname()).close()
        thread.join(10)


def test_a_camera_says_how_far_one_gets(where: Path) -> None:
    def said(source: str) -> tuple[Grade, str]:
        (found,) = cameras.cameras(config(where, source=source))
        assert "secret" not in found.text + found.mend
        return found.grade, found.text

    assert said("synthetic:belt")[0] is Grade.GOOD
    grade, text = said("rtsp://user:secret@camera.invalid/main")
    assert (grade, "no address for 'camera.invalid'" in text) == (Grade.BAD, True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    grade, text = said(f"rtsp://user:secret@127.0.0.1:{port}/main")
    assert (grade, f"no connection to 127.0.0.1 port {port}" in text) == (Grade.BAD, True)
    assert said("rtsp://user:secret@127.0.0.1:99999999/main")[0] is Grade.BAD
    with listening(b"SSH-2.0-no-camera\r\n") as port:
        grade, text = said(f"http://user:secret@127.0.0.1:{port}/stream")
        assert (grade, "no connection" in text) == (Grade.BAD, False)


def test_files_of_others_and_loose_keys_are_found(where: Path) -> None:
    told = config(where)
    assert "will be made" in by_subject(belongings(told, where))["data folder"].text
    keys = told.data / "keys"
    keys.mkdir(parents=True, mode=0o700)
    told.data.chmod(0o700)
    (keys / "worker.key_secret").write_text("x")
    (keys / "worker.key_secret").chmod(0o600)
    found = by_subject(belongings(told, where))
    assert {found[name].grade for name in ("data folder", "key folder", "key files")} == {Grade.GOOD}
    (keys / "worker.key_secret").chmod(0o640)
    told.data.chmod(0o755)
    where.chmod(0o666)
    found = by_subject(belongings(told, where))
    assert found["key files"].grade is Grade.BAD
    assert found["data folder"].mend == f"chmod 700 {told.data}"
    assert found["configuration"].grade is Grade.NOTE
    if os.getuid() == 0:
        os.chown(keys / "worker.key_secret", 12345, -1)
        assert "belong to another user" in by_subject(belongings(told, where))["owners"].text


@pytest.mark.parametrize("data", ["var", "var/inner"])
def test_a_folder_that_is_closed_to_us_ends_no_check(where: Path, data: str) -> None:
    config(where, page="{bind: '127.0.0.1:0'}")
    where.write_text(where.read_text().replace("data: var/", f"data: {data}"))
    folder = where.parent / "var"
    (folder / "inner").mkdir(parents=True)
    if os.getuid() == 0:
        folder.chmod(0o700)
        os.chown(folder, 12345, 12345)
    else:
        folder.chmod(0)
    try:
        command = [sys.executable, "-c", WITHOUT_PRIVILEGES, "doctor", str(where), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        folder.chmod(0o700)
    assert (done.returncode, done.stderr) == (1, "")
    grades = {finding["subject"]: finding["grade"] for finding in json.loads(done.stdout)}
    assert (grades["data folder"], grades["data"], grades["redis"]) == ("BAD", "BAD", "note")
    assert {"configuration", "page", "camera a"} <= set(grades)


@pytest.mark.parametrize(
    ("mode", "owner", "grade"),
    [
        (0o600, None, Grade.GOOD),
        (0o644, None, Grade.BAD),
        (0o640, (12345, 12345), Grade.BAD),
        (0o640, (0, 12345), Grade.GOOD),
        (0o644, (0, 12345), Grade.BAD),
        (0o640, (12345, 0), Grade.GOOD),
    ],
)
def test_a_password_that_others_can_read_is_bad(
    where: Path, monkeypatch: pytest.MonkeyPatch, mode: int, owner: tuple[int, int] | None, grade: Grade
) -> None:
    if owner is not None and os.getuid() != 0:
        return  # only root can give a file away
    monkeypatch.setenv("CAMERA", "hunter2")
    told = config(where, source="rtsp://u:${CAMERA}@camera/main")
    where.chmod(0o644)
    assert by_subject(belongings(told, where))["configuration"].grade is Grade.GOOD
    told = config(where, source="rtsp://u:hunter2@camera/main")
    where.chmod(mode)
    if owner is not None:
        os.chown(where, *owner)
    found = by_subject(belongings(told, where))["configuration"]
    assert found.grade is grade
    if grade is Grade.BAD:
        assert "others can read the password in lines[0].source" in found.text
        kept = 640 if owner == (0, 12345) else 600
        assert found.mend == f"chmod {kept} {where}, or name an environment variable: ${{NAME}}"
    assert "hunter2" not in str(found)


def test_a_mend_does_not_lock_linewatch_out(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = config(where, source="rtsp://u:hunter2@camera/main")
    where.chmod(0o644)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    monkeypatch.setattr(os, "getgid", lambda: 54322)
    mend = by_subject(belongings(told, where))["configuration"].mend
    assert mend.startswith(f"chown root:54322 {where}; chmod 640 {where}, or")
    monkeypatch.setattr("linewatch.doctor.belongings._MOUNTED", where.parent)
    assert by_subject(belongings(told, where))["configuration"].grade is Grade.GOOD, "a container engine's mode"


def test_a_device_that_is_asked_for_and_not_there_is_bad(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gpu(device: str) -> Finding:
        told = config(where, f"workers: [{{name: w0}}, {{name: w1, device: '{device}'}}]")
        return by_subject(machine(told, where.parent / "var"))["GPU"]

    assert gpu("cuda:99").grade is Grade.BAD
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert {gpu(device).grade for device in ("auto", "cpu")} == {Grade.NOTE}
    found = gpu("cuda")
    assert (found.grade, "worker w1: no device 'cuda' here" in found.text) == (Grade.BAD, True)
    assert "`device: auto`" in found.mend


def test_what_the_configuration_asks_of_the_machine(where: Path) -> None:
    found = by_subject(machine(config(where, "retention: {max_gb: 1, min_free_gb: 100000000}"), where.parent / "var"))
    assert found["disk"].grade is Grade.BAD
    found = by_subject(machine(config(where, "retention: {max_gb: 100000000}"), where.parent / "var"))
    assert found["disk"].grade is Grade.NOTE
    assert "ms to sync 4 KB" in found["data"].text
    workers = "workers: [" + ", ".join(f"{{name: w{n}}}" for n in range(500)) + "]"
    found = by_subject(machine(config(where, workers), where.parent / "var"))
    assert {found["cores"].grade, found["memory"].grade} == {Grade.NOTE}


@pytest.fixture
def outside(where: Path, redis_server: RedisServer, redis_client: redis.Redis) -> Config:
    """A configuration whose Redis is somebody else's server."""
    number = redis_client.connection_pool.connection_kwargs["db"]
    return config(where, f"redis: 'unix://{redis_server.socket}?db={number}'\n")


def test_redis_and_its_clock(outside: Config, redis_client: redis.Redis) -> None:
    found = by_subject(reach.store(outside))
    assert set(found) == {"redis", "redis durability", "redis memory", "redis clock"}
    assert {finding.grade for finding in found.values()} == {Grade.GOOD}
    try:
        redis_client.config_set("appendonly", "no")
        redis_client.config_set("maxmemory-policy", "allkeys-lru")
        found = by_subject(reach.store(outside))
    finally:
        redis_client.config_set("maxmemory-policy", "noeviction")
        redis_client.config_set("appendonly", "yes")
    assert found["redis durability"].grade is Grade.BAD
    assert found["redis memory"].grade is Grade.BAD


@pytest.mark.parametrize(
    ("ahead_s", "grade", "said"),
    [
        (0, Grade.GOOD, "last heard of"),
        (2, Grade.NOTE, "s ahead of"),
        (60, Grade.BAD, "s ahead"),
        (-60, Grade.NOTE, "60 s ago"),
    ],
)
def test_clocks_of_other_hosts(
    outside: Config, redis_client: redis.Redis, ahead_s: int, grade: Grade, said: str
) -> None:
    told: dict[str, Any] = {"wall_ns": time.time_ns() + ahead_s * 10**9}
    Workers(redis_client).record("w0", told)
    Captures(redis_client).record("a", told)
    found = by_subject(reach.store(outside))
    for name in ("worker w0", "capture a"):
        assert (found[name].grade, said in found[name].text) == (grade, True)


def test_a_skew_is_measured_against_what_the_way_takes() -> None:
    assert reach._skew("redis clock", 0.2, give_s=0.5).grade is Grade.GOOD
    assert reach._skew("redis clock", -0.7, give_s=0.5).text == "700 ms behind this machine's"
    assert reach._skew("redis clock", 6, give_s=0.5).grade is Grade.BAD


def test_redis_that_is_away_is_bad_only_where_nobody_starts_it(where: Path) -> None:
    assert by_subject(reach.store(config(where)))["redis"].text == "embedded, not running now"
    found = by_subject(reach.store(config(where, f"redis: 'unix://{where.parent}/none.sock'\n")))
    assert found["redis"].grade is Grade.BAD


def test_an_embedded_redis_that_is_needed_now_and_does_not_serve(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = config(where)

    def said() -> tuple[Grade, str]:
        found = by_subject(reach.store(told))["redis"]
        assert (found.grade is Grade.GOOD) == (not found.mend)
        return found.grade, found.text

    with claim(told.data):
        away = (Grade.BAD, f"embedded, does not run although process {os.getpid()} uses {told.data}")
        assert said() == away
        with RedisServer(told.data) as server:
            assert said()[0] is Grade.GOOD
            monkeypatch.setattr("storage.server.ANSWER_S", 0.5)
            os.kill(server.pid, signal.SIGSTOP)
            try:
                assert said() == (Grade.BAD, "embedded, hangs: it takes connections and does not answer")
            finally:
                os.kill(server.pid, signal.SIGCONT)
            server.kill()
            deadline = time.monotonic() + 10
            while server.alive() and time.monotonic() < deadline:
                time.sleep(0.02)
            assert socket_path(told.data).exists()
            assert said() == away
    assert said() == (Grade.GOOD, "embedded, not running now")


def test_an_embedded_redis_that_reads_its_data_back_is_waited_for(where: Path) -> None:
    told = config(where)
    path = socket_path(told.data)
    path.parent.mkdir(mode=0o700, parents=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"-LOADING Redis is loading the dataset in memory\r\n")
                connection.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        found = by_subject(reach.store(told))["redis"]
        thread.join(10)
    assert (found.grade, "it is reading its data back" in found.text) == (Grade.NOTE, True)
    assert "redis.log" in found.mend
