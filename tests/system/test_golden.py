"""`linewatch up` as real processes, with a detector that dies: its golden sample is missed, and nothing passes."""

import json
import logging
import os
import shutil
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import structlog

from inference.challenger import MISSED, NOT_SHOWN
from linewatch.cli import main
from linewatch.config import load
from storage.audits import Audits
from storage.history import History
from storage.models import Registry
from storage.records import AlertKind, Status
from storage.server import RedisServer, connect
from storage.verdicts import VerdictStream
from tests.plates import plate, write_plates

CONFIG = """
data: d
workers: [{name: w0, max_batch: 4, device: cpu, threads: 1}]
lines:
  - id: cam
    source: parts/?fps=5
    deadline_ms: 60000
    model: plate
    false_alarms: 5%
    golden: {block: true}
alerts: {page: null, sinks: []}
"""

KEPT = (
    "detector",
    "settings",
    "preprocessing",
    "backbone",
    "backbone_sha256",
    "data_fingerprint",
    "n_train",
    "metrics",
)


def dead(registry, name):
    """A version whose detector says 0 to everything: weights that were lost, and nothing that complains."""
    bundle = registry.resolve(f"{name}@1")
    manifest, tensors = bundle.manifest, bundle.tensors()
    return registry.write(
        name,
        **{field: getattr(manifest, field) for field in KEPT},
        tensors={key: np.zeros_like(t) if "whitening" in key else t for key, t in tensors.items()},
        calibration=bundle.calibration(),
        reference={},
    )


@pytest.fixture
def golden(tmp_path, capsys):
    """Runs `linewatch golden` on the line; gives its exit code and output."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def run(*arguments):
        capsys.readouterr()
        return main(["golden", str(tmp_path / "linewatch.yaml"), "cam", *map(str, arguments)]), capsys.readouterr().out

    yield run
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def wait_for(condition, timeout=60):
    until = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.1)
    return found


@pytest.mark.timeout(150)
def test_a_dead_detector_is_found_out_told_and_blocked_until_one_that_sees_takes_over(tmp_path, plate_model, golden):
    path = tmp_path / "linewatch.yaml"
    path.write_text(CONFIG)
    config = load(path)
    registry = Registry(config.storage.models)
    registry.root.mkdir(parents=True)
    shutil.copytree(plate_model.path.parent, registry.root / "plate")
    dead(registry, "plate")
    write_plates(tmp_path / "parts", 600, first=500)
    cv2.imwrite(str(tmp_path / "patch.png"), plate(1, defect=True))
    assert golden("--record", tmp_path / "patch.png")[0] == 0

    history = History.open(config.storage)
    audits, stream = Audits(history.database), VerdictStream(connect(config.storage))

    def newest():
        found = stream.latest(1)
        return found[0][1] if found else None

    def alert():
        return next((a for a in history.alerts() if a.kind is AlertKind.GOLDEN_MISSED), None)

    env = {**os.environ, "LINEWATCH_LOG": "console", "LINEWATCH_LOG_LEVEL": "warning"}
    with subprocess.Popen([sys.executable, "-m", "linewatch", "up", str(path)], env=env) as up:
        try:
            wait_for((config.data / "redis" / "redis.sock").exists)
            wait_for(lambda: (found := newest()) and found.status is not Status.UNKNOWN)
            [shown] = wait_for(audits.results)
            assert (shown.occasion, shown.worker, shown.model, shown.missed) == ("start", "w0", "plate@1", False)
            assert alert() is None

            registry.promote("plate", 2)
            raised = wait_for(alert)
            assert raised.cleared_ns is None
            wait_for(lambda: newest().reason == MISSED)
            code, out = golden()
            assert (code, "reject    pass MISSED" in out) == (1, True), out

            registry.promote("plate", 1)
            wait_for(lambda: alert().cleared_ns)
            wait_for(lambda: newest().model == "plate@1")
            assert golden()[0] == 0
            wait_for(lambda: len(audits.results()) == 5)
        finally:
            up.terminate()
            assert up.wait(30) == 0
    code, out = golden("--results", "--json")
    kept = [json.loads(line) for line in reversed(out.splitlines())]
    assert code == 0
    assert [(result["occasion"], result["status"]) for result in kept] == [
        ("start", "reject"),
        ("promoted", "pass"),
        ("asked", "pass"),
        ("promoted", "reject"),
        ("asked", "reject"),
    ]
    with RedisServer(config.data):
        verdicts = [verdict for _, verdict in stream.latest(100_000)]
    assert {verdict.model for verdict in verdicts} == {None, "plate@1"}, "nothing was judged by the dead detector"
    assert {verdict.reason for verdict in verdicts} <= {None, MISSED, NOT_SHOWN}
    history.close()
