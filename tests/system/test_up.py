"""`linewatch up` as real processes: one that hangs is replaced, and a stop in mid-flow leaves nothing open."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from linewatch.config import load
from storage.history import History
from storage.lines import Lines
from storage.server import RedisServer, connect
from storage.verdicts import VerdictStream

CONFIG = """
data: d
workers: [{name: w0, max_batch: 4, device: cpu, threads: 1}]
lines:
  - id: belt
    source: synthetic:belt?fps=10&size=96x96&defect_every=0
    deadline_ms: 60000
    model: plate
    false_alarms: 5%
    alert: {raise: 1 of 1, clear_after: 60s}
alerts: {page: null, sinks: []}
"""
ENV = {**os.environ, "LINEWATCH_LOG": "console", "LINEWATCH_LOG_LEVEL": "warning"}


def wait_for(condition, timeout):
    until = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.1)
    return found


@pytest.fixture
def site(tmp_path, plate_model):
    path = tmp_path / "linewatch.yaml"
    path.write_text(CONFIG)
    models = load(path).storage.models
    models.mkdir(parents=True)
    shutil.copytree(plate_model.path.parent, models / "plate")
    return path


@pytest.fixture
def up(site):
    process = subprocess.Popen([sys.executable, "-m", "linewatch", "up", str(site)], env=ENV)
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


def status(site):
    command = [sys.executable, "-m", "linewatch", "status", str(site), "--json"]
    told = json.loads(subprocess.run(command, env=ENV, stdout=subprocess.PIPE, check=False).stdout)
    return told, {entry["role"]: entry for entry in told["processes"]}


def captured(config):
    def count() -> int:
        try:
            return sum(state.passed + state.rejected for state in Lines(connect(config.storage)).states())
        except Exception:  # noqa: BLE001 - Redis is not there yet
            return 0

    return count


@pytest.mark.timeout(300)
def test_what_hangs_is_replaced_and_a_stop_in_mid_flow_leaves_nothing_open(site, up):
    config = load(site)
    judged = captured(config)
    wait_for(lambda: judged() > 8, 90)
    told, entries = status(site)
    assert told["well"]
    assert entries["worker w0"]["judged"] > 0
    worker, redis = entries["worker w0"]["pid"], entries["redis"]["pid"]

    os.kill(worker, signal.SIGSTOP)
    wait_for(lambda: not psutil.pid_exists(worker), 60)
    wait_for(lambda: status(site)[1]["worker w0"]["state"] == "running", 30)
    entry = status(site)[1]["worker w0"]
    assert (entry["hangs"], entry["restarts"]) == (1, 1)
    before = judged()
    wait_for(lambda: judged() > before + 8, 60)

    os.kill(redis, signal.SIGSTOP)
    wait_for(lambda: not psutil.pid_exists(redis), 60)
    wait_for(lambda: status(site)[1]["redis"]["hangs"] == 1, 30)
    before = wait_for(judged, 30)
    wait_for(lambda: judged() > before + 8, 60)
    entries = status(site)[1]
    assert [entries[role]["hangs"] for role in ("capture belt", "worker w0", "alerts")] == [0, 1, 0]

    assert stopped(up, config) <= {None, "capture stopped", "capture lost", "late", "no answer"}


@pytest.mark.timeout(300)
def test_each_role_drains_when_it_is_asked_to_end(site, up):
    config = load(site)
    judged = captured(config)
    for role, code in (("worker w0", 0), ("alerts", 0), ("capture belt", 128 + signal.SIGTERM)):
        before = judged()
        wait_for(lambda before=before: judged() > before + 4, 90)
        pid = status(site)[1][role]["pid"]
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda pid=pid: not psutil.pid_exists(pid), 30)
        wait_for(lambda role=role: status(site)[1][role]["state"] == "running", 30)
        entry = status(site)[1][role]
        assert (entry["last_exit"], entry["restarts"], entry["hangs"]) == (code, 1, 0), role
    before = judged()
    wait_for(lambda: judged() > before + 4, 90)
    assert stopped(up, config) <= {None, "capture stopped"}, "nothing was lost, nothing had to be found out"


def stopped(up, config) -> set[str | None]:
    """Stop `up` in mid-flow, hold what is stored against itself, and give the reasons of all verdicts."""
    up.send_signal(signal.SIGTERM)
    assert up.wait(60) == 0
    with RedisServer(config.data):
        client = connect(config.storage)
        [state] = Lines(client).states()
        stream = VerdictStream(client)
        verdicts = [verdict for _, verdict in stream.latest(100_000)]
        newest = stream.latest(1)[0][0]
    assert state.open == 0
    assert state.captured == state.passed + state.rejected + state.unknown
    assert len({verdict.id for verdict in verdicts}) == len(verdicts) == state.captured
    history = History.open(config.storage)
    assert history.position() == newest, "the alert service has read all that was stored"
    history.close()
    return {verdict.reason for verdict in verdicts}
