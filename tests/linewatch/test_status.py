import json
import os
import subprocess
import sys
import time

import pytest

from linewatch.cli import main
from linewatch.datafolder import claim, only, owner

CONFIG = """
data: d
lines: [{id: belt, source: "synthetic:belt?fps=5", model: plate, false_alarms: 5%}]
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "linewatch.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def write(config, *roles):
    told = {"pid": os.getpid(), "roles": roles, "redis": role("redis")}
    (config.parent / "d" / "up.json").write_text(json.dumps(told), encoding="utf-8")


def role(name, state="running", **more):
    known = {"pid": 5, "restarts": 0, "last_exit": None, "hangs": 0, "last_hang": None}
    return {"role": name, "state": state, "started_mono_s": time.monotonic() - 7300, **known, **more}


def test_a_site_that_does_not_run_is_said_to_and_fails(config, capsys):
    assert main(["status", str(config)]) == 1
    assert "does not run" in capsys.readouterr().out


def test_what_was_left_behind_is_not_taken_for_running(config, capsys):
    with claim(config.parent / "d"):
        write(config, role("alerts"))
    assert main(["status", str(config), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["running"], told["well"]) == (False, False)
    assert {entry["state"] for entry in told["processes"]} == {"not running"}


def test_a_crash_loop_and_a_hang_are_seen(config, capsys):
    hang = "no turn of link within 20 s"
    with claim(config.parent / "d"):
        write(config, role("capture belt"), role("worker w0", "crash-loop", restarts=6, hangs=2, last_hang=hang))
        assert main(["status", str(config), "--json"]) == 1
        told = json.loads(capsys.readouterr().out)
        assert main(["status", str(config)]) == 1
        text = capsys.readouterr().out
        write(config, role("capture belt"), role("worker w0"))
        assert main(["status", str(config)]) == 0, "exit 0 only when all are well"
    entries = {entry["role"]: entry for entry in told["processes"]}
    assert entries["worker w0"]["state"] == "crash-loop"
    assert entries["capture belt"]["up_s"] >= 7300
    assert "does not answer" in told["redis_says"], "Redis does not run here, which is said"
    assert f"worker w0: was killed because it hung: {hang}" in text
    assert "2 h 1 min" in text


def test_asking_who_owns_a_folder_takes_nothing(tmp_path):
    assert owner(tmp_path / "d") is None
    with claim(tmp_path / "d"):
        assert owner(tmp_path / "d") == os.getpid()
    assert owner(tmp_path / "d") is None
    with claim(tmp_path / "d"):
        pass


def test_a_second_alert_service_on_the_same_data_is_one_clear_line(config):
    command = [sys.executable, "-m", "linewatch", "alerts", str(config)]
    with only(config.parent / "d", "alerts"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    [said] = done.stderr.strip().splitlines()
    assert f"`linewatch alerts` runs here already (process {os.getpid()}): stop that one" in said
