"""`linewatch up` as real processes, each killed once in mid-run: every captured frame still has its verdict."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from linewatch.config import load
from storage.history import History
from storage.lines import Lines
from storage.records import AlertKind
from storage.server import RedisServer, connect
from storage.verdicts import VerdictStream

FRAMES = 240
FPS = 12
CONFIG = f"""
data: d
workers: [{{name: w0, max_batch: 4, device: cpu, threads: 1}}]
lines:
  - id: belt
    source: synthetic:belt?fps={FPS}&size=96x96&frames={FRAMES}&defect_every=0
    deadline_ms: 60000
    model: plate
    false_alarms: 5%
    alert: {{raise: 1 of 1, clear_after: 60s}}
alerts: {{page: null, sinks: []}}
"""


def roles(data):
    """Process ids by role, as `up` last wrote them."""
    try:
        status = json.loads((data / "up.json").read_text())
    except FileNotFoundError:
        return {}
    pids = {role["role"]: role["pid"] for role in status["roles"] if role["state"] == "running"}
    return {**pids, "redis": status["redis"]["pid"]}


def wait_for(condition, timeout):
    until = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.1)
    return found


@pytest.mark.timeout(240)
def test_sigkill_of_any_process_loses_no_frame(tmp_path, plate_model):
    path = tmp_path / "linewatch.yaml"
    path.write_text(CONFIG)
    config = load(path)
    config.storage.models.mkdir(parents=True)
    shutil.copytree(plate_model.path.parent, config.storage.models / "plate")
    env = {**os.environ, "LINEWATCH_LOG": "console", "LINEWATCH_LOG_LEVEL": "warning"}
    command = [sys.executable, "-m", "linewatch", "up", str(path), "--until-done"]
    with subprocess.Popen(command, env=env) as supervisor:
        lines = Lines(connect(config.storage))
        try:
            wait_for(lambda: roles(config.data), 30)
            wait_for((config.data / "redis" / "redis.sock").exists, 10)
            wait_for(lambda: lines.states() and lines.states()[0].passed + lines.states()[0].rejected > 8, 60)
            for victim in ("worker w0", "alerts", "redis", "capture belt"):
                pid = wait_for(lambda role=victim: roles(config.data).get(role), 20)
                os.kill(pid, signal.SIGKILL)
                wait_for(lambda role=victim, old=pid: roles(config.data).get(role) not in (None, old), 20)
                time.sleep(2.0)
            assert supervisor.wait(150) == 0
        finally:
            supervisor.kill() if supervisor.poll() is None else None
    with RedisServer(config.data):
        [state] = Lines(connect(config.storage)).states()
        verdicts = [verdict for _, verdict in VerdictStream(connect(config.storage)).latest(100_000)]
    assert state.open == 0
    assert state.captured == state.passed + state.rejected + state.unknown
    assert state.captured > FRAMES  # the killed capture's frames, and all of its successor's
    assert state.passed + state.rejected >= FRAMES / 2
    assert len({verdict.id for verdict in verdicts}) == len(verdicts) == state.captured
    assert {verdict.reason for verdict in verdicts} <= {None, "capture lost", "late", "no answer"}
    runs = {verdict.run for verdict in verdicts}
    assert len(runs) == 2
    for run in runs:
        seqs = sorted(verdict.seq for verdict in verdicts if verdict.run == run)
        assert seqs == list(range(len(seqs)))
    defects = [alert for alert in History.open(config.storage).alerts() if alert.kind is AlertKind.DEFECT]
    assert len({alert.id for alert in defects}) == len(defects)
    assert bool(defects) == bool(state.rejected)
