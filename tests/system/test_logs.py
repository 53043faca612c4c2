"""One part, followed by one id through the logs of every process: from the camera to the alert."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.models import Bundle
from tests.plates import write_plates

CONFIG = """
data: d
workers: [{name: w0, device: cpu, threads: 1}]
lines: [{id: cam, source: parts/, model: plate, false_alarms: 5%}]
alerts: {page: null}
"""
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def folder() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="lw-", dir="/tmp"))
    yield place
    shutil.rmtree(place)


def logged(folder: Path) -> list[dict[str, Any]]:
    """Every line that a whole run logs, of all processes."""
    command = [sys.executable, "-P", "-m", "linewatch", "up", "linewatch.yaml", "--until-done"]
    environment = {**os.environ, "LINEWATCH_LOG": "json", "LINEWATCH_LOG_LEVEL": "debug"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_one_part_is_followed_from_capture_to_alert(folder: Path, plate_model: Bundle) -> None:
    shutil.copytree(plate_model.path.parent, folder / "d" / "models" / "plate")
    (folder / "d").chmod(0o700)
    write_plates(folder / "parts", 4, defects=(2,))
    (folder / "linewatch.yaml").write_text(CONFIG)
    lines = logged(folder)

    assert [line for line in lines if not TIME.fullmatch(line["timestamp"]) or "role" not in line] == []
    (raised,) = [line for line in lines if line["event"] == "alert raised"]
    part = raised["verdict"]
    assert re.fullmatch(r"cam/[0-9a-f]{16}/2", part)
    assert raised["alert"] == f"{part}/defect"

    followed = [line for line in lines if part in (line.get("verdict"), *line.get("verdicts", ()))]
    steps = [(line["role"], line["event"], line["level"]) for line in followed]
    way = [
        ("capture", "captured", "debug"),
        ("capture", "sent", "debug"),
        ("worker", "received", "debug"),
        ("worker", "stored", "info"),
        ("alerts", "alert committed", "info"),
        ("alerts", "alert raised", "warning"),
    ]
    assert [step for step in dict.fromkeys(steps) if step in way] == way, "in this order"
    assert ("capture", "settled", "debug") in steps
    (stored,) = [line for line in followed if line["event"] == "stored"]
    assert (stored["status"], stored["name"]) == ("reject", "w0")
    assert stored["score"] > stored["threshold"]
    assert {line["worker"] for line in followed if line["event"] in ("sent", "received")} == {
        line["worker"] for line in lines if line["event"] == "worker ready" and line["role"] == "worker"
    }

    passed = [line for line in lines if line.get("verdict", "").endswith("/0")]
    assert {line["level"] for line in passed} == {"debug"}, "a good part costs no line unless it is asked for"
