import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linewatch.datafolder import claim
from linewatch.errors import AlreadyRunning, ConfigError
from linewatch.keeper import Keeper
from linewatch.restarts import Backoff, Restarts, State
from linewatch.silence import Patience
from linewatch.supervisor import Role, Supervisor
from storage.config import StorageConfig
from storage.errors import StoreUnavailable
from storage.server import RedisServer, connect

FAST = Backoff(first_s=0.05, most_s=0.2, healthy_s=30, loop_after=3)
PATIENCE_S = 60.0


# --- the pure core ---------------------------------------------------------------------------------------------------


@given(lives=st.lists(st.tuples(st.floats(0, 100), st.integers(-15, 2)), min_size=1, max_size=40))
def test_a_role_without_an_end_is_always_due_again_and_the_wait_is_bounded(lives):
    backoff = Backoff()
    life = Restarts(backoff)
    now = 0.0
    for ran_s, code in lives:
        assert life.due is not None
        now = max(now, life.due)
        life.started(now)
        assert life.due is None
        now += ran_s
        life.exited(now, code)
        wait = life.due - now
        assert backoff.first_s * 0.99 <= wait <= backoff.most_s * 1.01
        if ran_s >= backoff.healthy_s:
            assert wait == pytest.approx(backoff.first_s), "a healthy life is forgiven"
    assert life.restarts == len(lives) - 1


def test_the_wait_doubles_up_to_its_bound():
    delays = [Backoff().delay(n) for n in range(1, 10)]
    assert delays == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10])
    assert Backoff().delay(10**9) == 10


def test_a_crash_loop_is_visible_until_the_process_has_proved_itself():
    life = Restarts(Backoff())
    now = 0.0
    for _ in range(4):
        life.started(now)
        assert life.state(now) is State.RUNNING
        life.exited(now, 1)
    assert life.state(now) is State.CRASH_LOOP
    life.started(now)
    assert life.state(now + 29) is State.CRASH_LOOP, "still unproved"
    assert life.state(now + 30) is State.RUNNING
    life.exited(now + 31, 1)
    assert life.state(now + 31) is State.WAITING


def test_only_a_role_that_ends_ends_with_zero():
    ending, endless = Restarts(FAST, ends=True), Restarts(FAST)
    for life in (ending, endless):
        life.started(0)
        life.exited(1, 0)
    assert (ending.due, ending.state(1)) == (None, State.ENDED)
    assert endless.due is not None
    failing = Restarts(FAST, ends=True)
    failing.started(0)
    failing.exited(1, 1)
    assert failing.due is not None


def test_what_was_stopped_stays_stopped():
    life = Restarts(FAST)
    life.started(0)
    life.stop()
    assert life.state(1) is State.RUNNING
    life.exited(2, -15)
    assert (life.due, life.state(2)) == (None, State.STOPPED)


# --- real processes --------------------------------------------------------------------------------------------------

PROGRAM = """
    import os, signal, sys, threading, time
    from linewatch import lifeline
    from linewatch.progress import Progress
    name, log, *rest = sys.argv[1:]
    def say(what):
        with open(log, "a") as file:
            file.write(f"{name} {what}\\n")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, (lambda *_: None) if "deaf" in rest else (lambda *_: stop.set()))
    lifeline.hold()
    progress = Progress.open()
    if not {"mute", "camera"} & set(rest): progress.moves("main")
    say("start")
    if "fail" in rest: sys.exit(1)
    if "end" in rest: sys.exit(0)
    if "mute" in rest: time.sleep(3600)
    if "camera" in rest:
        progress.waits("grab")
        stop.wait()
    turns = 0
    while not stop.wait(0.05):
        turns += 1
        if "stuck" in rest and turns > 3: threading.Lock().acquire() and threading.Event().wait()
        progress.moves("main")
    time.sleep(0.2)
    say("end")
"""


@pytest.fixture
def role(tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM), encoding="utf-8")

    def role(name: str, *words: str, **settings) -> Role:
        command = (sys.executable, str(program), name, str(tmp_path / "log"), *words)
        return Role(name, command, **settings)

    return role


class Running:
    """A supervisor in a thread."""

    def __init__(self, folder: Path, supervisor: Supervisor) -> None:
        self.folder, self.supervisor = folder, supervisor
        self.thread = threading.Thread(target=supervisor.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.supervisor.stop()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()

    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def status(self) -> dict:
        return json.loads((self.folder / "up.json").read_text(encoding="utf-8"))

    def role(self, name: str) -> dict:
        return next(role for role in self.status()["roles"] if role["role"] == name)


def eventually(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def supervise(tmp_path: Path):
    def supervise(*roles: Role, **settings) -> Running:
        settings = {"backoff": FAST, **settings}
        return Running(tmp_path, Supervisor(roles=roles, status=tmp_path / "up.json", **settings))

    return supervise


def test_each_killed_process_is_started_again_and_the_stages_stop_in_order(supervise, role):
    roles = [role("alerts", stage=2), role("capture", stage=0), role("worker", stage=1)]
    with supervise(*roles) as running:
        eventually(lambda: len(running.log()) == 3, "all have started")
        for name in ("capture", "worker", "alerts"):
            pid = running.role(name)["pid"]
            os.kill(pid, signal.SIGKILL)
            eventually(lambda name=name: running.log().count(f"{name} start") == 2, f"{name} is back")
            eventually(lambda name=name: running.role(name)["state"] == "running", f"{name} runs")
            assert running.role(name)["restarts"] == 1
            assert running.role(name)["last_exit"] == -signal.SIGKILL
            assert running.role(name)["pid"] not in (pid, None)
    assert running.log()[-3:] == ["capture end", "worker end", "alerts end"]
    assert {entry["state"] for entry in running.status()["roles"]} == {"stopped"}


def test_a_crash_loop_is_shown_and_does_not_stop_the_others(supervise, role):
    with supervise(role("bad", "fail"), role("good")) as running:
        eventually((running.folder / "up.json").exists, "a status file")
        eventually(lambda: running.role("bad")["state"] == "crash-loop", "the loop is seen")
        assert running.role("bad")["last_exit"] == 1
        assert running.role("good")["state"] == "running"
        assert running.role("good")["restarts"] == 0


def test_what_ends_is_left_alone_and_until_ends_the_run(supervise, role):
    asked = []

    def until() -> bool:
        asked.append(running.role("capture")["state"])
        return len(asked) == 2

    running = supervise(role("capture", "end", ends=True), role("worker", stage=1), until=until)
    with running:
        running.thread.join(PATIENCE_S)
        assert not running.thread.is_alive()
    assert len(asked) == 2, "asked only once the capture has ended, and again until it agrees"
    assert running.log().count("capture start") == 1
    assert running.log()[-1] == "worker end"
    assert running.role("capture")["state"] == "ended"


def test_a_process_deaf_to_sigterm_is_killed_after_its_grace(supervise, role):
    with supervise(role("deaf", "deaf", grace_s=0.5)) as running:
        eventually(lambda: running.log() == ["deaf start"], "it runs")
        pid = running.role("deaf")["pid"]
    assert not psutil.pid_exists(pid)
    assert running.role("deaf")["last_exit"] == -signal.SIGKILL


def test_a_program_that_does_not_exist_is_a_crash_loop_not_a_crash(supervise):
    with supervise(Role("ghost", ("/no/such/program",))) as running:
        eventually((running.folder / "up.json").exists, "a status file")
        eventually(lambda: running.role("ghost")["state"] == "crash-loop", "the loop is seen")
        assert running.role("ghost")["last_exit"] == 127


# --- progress --------------------------------------------------------------------------------------------------------


def test_a_stopped_process_is_killed_and_started_again_while_the_others_go_on(supervise, role):
    roles = [role(name, patience=Patience(8.0, 30.0)) for name in ("worker", "other")]
    with supervise(*roles) as running:
        eventually(lambda: len(running.log()) == 2, "both run")
        pid = running.role("worker")["pid"]
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: running.log().count("worker start") == 2, "a fresh one runs")
        eventually(lambda: running.role("worker")["state"] == "running", "it is seen")
        entry = running.role("worker")
        assert (entry["hangs"], entry["last_exit"]) == (1, -signal.SIGKILL)
        assert entry["last_hang"] == "no turn of main within 8 s"
        assert not psutil.pid_exists(pid)
        assert (running.role("other")["restarts"], running.role("other")["hangs"]) == (0, 0)


def test_a_deadlock_and_a_start_that_never_ends_are_hangs(supervise, role):
    roles = [role("stuck", "stuck", patience=Patience(1.0)), role("mute", "mute", patience=Patience(1.0, 2.0))]
    with supervise(*roles) as running:
        eventually((running.folder / "up.json").exists, "a status file")
        eventually(lambda: running.role("stuck")["hangs"] >= 1, "the deadlock is seen")
        eventually(lambda: running.role("mute")["hangs"] >= 1, "so is the start")
        assert running.role("mute")["last_hang"] == "has not begun its work after 2 s"
        eventually(lambda: running.role("stuck")["state"] == "crash-loop", "again and again is a crash loop")


def test_who_waits_for_a_camera_or_tells_nothing_is_left_alone(supervise, role):
    brief = Patience(0.5)
    roles = [role("camera", "camera", patience=brief), role("untold", "mute"), role("pace", "stuck", patience=brief)]
    with supervise(*roles) as running:
        eventually((running.folder / "up.json").exists, "a status file")
        eventually(lambda: running.role("pace")["hangs"] == 3, "time has passed")
        assert [running.role(name)["restarts"] for name in ("camera", "untold")] == [0, 0]


def test_a_full_disk_under_the_status_file_stops_nothing(supervise, role, tmp_path):
    (tmp_path / "up.tmp").mkdir()  # what is written first cannot be
    with supervise(role("good")) as running:
        eventually(lambda: running.log() == ["good start"], "it runs")
        (tmp_path / "up.tmp").rmdir()
        eventually((running.folder / "up.json").exists, "written as soon as it can be")
        assert running.role("good")["restarts"] == 0


def test_a_question_that_blocks_holds_nothing_up(supervise, role):
    asked, go = threading.Event(), threading.Event()

    def until() -> bool:
        asked.set()
        return go.wait(PATIENCE_S)

    running = supervise(role("capture", "end", ends=True), role("worker", stage=1), until=until)
    with running:
        assert asked.wait(PATIENCE_S)
        eventually(lambda: "worker start" in running.log(), "the worker runs")
        os.kill(running.role("worker")["pid"], signal.SIGKILL)
        eventually(lambda: running.log().count("worker start") == 2, "and is restarted meanwhile")
        go.set()
        running.thread.join(PATIENCE_S)
        assert not running.thread.is_alive()


# --- redis -----------------------------------------------------------------------------------------------------------


class FakeServer:
    """Stands in for the Redis server: dies on request, refuses to start once."""

    def __init__(self) -> None:
        self.pid, self.refusals, self.said, self.running = 0, 1, [], False

    def answers(self) -> bool:
        return True

    @property
    def exit_code(self) -> int | None:
        return None if self.running else 3

    def kill(self) -> None:
        self.running = False

    def start(self, *, stop) -> None:  # noqa: ARG002 - it starts at once
        if self.pid and self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("no")
        self.pid += 1
        self.running = True
        self.said.append("start")

    def stop(self) -> None:
        self.running = False
        self.said.append("stop")

    def alive(self) -> bool:
        return self.running


def test_the_server_is_started_first_restarted_and_stopped_last(supervise, role):
    server = FakeServer()
    with supervise(role("alerts"), server=server) as running:
        eventually(lambda: running.log() == ["alerts start"], "the role runs")
        told = running.status()["redis"]
        assert [told[key] for key in ("pid", "state", "restarts", "hangs")] == [1, "running", 0, 0]
        server.running = False
        eventually(lambda: running.status()["redis"]["pid"] == 2, "the server is back, after one refusal")
        assert running.status()["redis"]["last_exit"] == 3
        assert running.role("alerts")["restarts"] == 0
    assert server.said == ["start", "start", "stop"]
    assert running.log() == ["alerts start", "alerts end"]


def test_a_redis_that_hangs_is_killed_and_comes_back_with_what_it_had():
    folder = Path(tempfile.mkdtemp(prefix="lw-", dir="/tmp"))
    server = RedisServer(folder)
    keeper = Keeper(server, FAST, silent_s=1.0)
    keeper.start()
    try:
        assert keeper.ready.wait(PATIENCE_S)
        assert keeper.failure is None
        with connect(StorageConfig(data=folder)) as client:
            client.set("kept", "yes")
            pid = server.pid
            os.kill(pid, signal.SIGSTOP)
            eventually(lambda: keeper.describe()["hangs"] == 1, "it is seen")
            eventually(lambda: keeper.describe()["pid"] not in (None, pid) and server.answers(), "a fresh one answers")
            assert not psutil.pid_exists(pid)
            assert client.get("kept") == "yes"
            assert keeper.describe()["restarts"] == 1
            assert keeper.describe()["last_exit"] == -signal.SIGKILL
    finally:
        keeper.stop()
        shutil.rmtree(folder)
    assert keeper.describe()["state"] == "stopped"
    assert not server.alive()


class LoadingServer(FakeServer):
    """Takes any time to start, as one that reads much data back."""

    def start(self, *, stop) -> None:
        self.running = True
        stop.wait()
        raise StoreUnavailable("stopped while it was starting")


def test_a_redis_that_is_still_loading_holds_up_neither_the_status_nor_the_end(supervise, role):
    running = supervise(role("alerts"), server=LoadingServer())
    with running:
        eventually((running.folder / "up.json").exists, "a status file")
        assert running.status()["redis"]["state"] == "starting"
        assert running.log() == []
    assert running.log() == [], "nothing is started that could do nothing"


def test_a_redis_that_cannot_start_is_an_error_of_the_run(tmp_path, role):
    server = FakeServer()
    server.pid = 1
    with pytest.raises(StoreUnavailable, match="no"):
        Supervisor(roles=[role("alerts")], status=tmp_path / "up.json", server=server).run()


UP = """
    import signal, sys
    from pathlib import Path
    from linewatch.supervisor import Role, Supervisor
    folder, program = Path(sys.argv[1]), sys.argv[2]
    roles = [Role(n, (sys.executable, program, n, str(folder / "log")), stage=s) for s, n in enumerate(["a", "b"])]
    supervisor = Supervisor(roles=roles, status=folder / "up.json")
    signal.signal(signal.SIGTERM, lambda *_: supervisor.stop())
    supervisor.run()
"""


@pytest.fixture
def up(tmp_path, role):
    program = Path(role("x").command[1])
    script = tmp_path / "up.py"
    script.write_text(textwrap.dedent(UP), encoding="utf-8")
    process = subprocess.Popen([sys.executable, script, tmp_path, program])
    eventually(lambda: (tmp_path / "log").exists() and len((tmp_path / "log").read_text().splitlines()) == 2, "two up")
    yield process
    process.kill()
    process.wait()


def test_sigterm_stops_all_in_order(up, tmp_path):
    up.terminate()
    assert up.wait(PATIENCE_S) == 0
    assert (tmp_path / "log").read_text().splitlines()[-2:] == ["a end", "b end"]


def test_children_do_not_outlive_a_killed_supervisor(up, tmp_path):
    pids = [entry["pid"] for entry in json.loads((tmp_path / "up.json").read_text())["roles"]]
    up.kill()
    up.wait()
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in pids), "the children have gone too")
    assert sorted((tmp_path / "log").read_text().splitlines()[-2:]) == ["a end", "b end"], "they ended politely"


def test_a_data_folder_has_one_owner(tmp_path):
    data = tmp_path / "a" / "var"
    with claim(data):
        assert data.stat().st_mode & 0o777 == 0o700
        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"), claim(data):
            pass
    with claim(data):
        pass


def test_a_data_folder_that_cannot_be_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be created"), claim(tmp_path / "file" / "var"):
        pass
