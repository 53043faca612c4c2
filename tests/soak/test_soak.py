"""A soak of less than a minute: it runs, it samples every process, and what a short run can tell holds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.samples import read

ROOT = Path(__file__).parents[2]
ROLES = {"capture every", "capture patient", "capture freshest", "worker w0", "alerts", "redis", "supervisor"}
CAP_MB = 1.0


@pytest.mark.timeout(420)
def test_a_short_soak_samples_every_process_and_holds_what_a_short_run_can_tell(tmp_path):
    options = ["--minutes", "0.6", "--every", "1", "--fps", "60", "--evidence-mb", str(CAP_MB)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", *options, "--folder", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    log = (tmp_path / "up.log").read_text() if (tmp_path / "up.log").exists() else ""
    assert done.returncode == 0, done.stdout + done.stderr + log[-5000:]
    assert "of 0.6 min" in done.stdout
    assert "all held" in done.stdout

    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"]
    assert report["faults"] == []
    assert report["unaccounted"] == report["restarts"] == 0
    assert report["frames"] > 0
    assert report["hook_taken"] > 0
    assert 0.8 * CAP_MB < report["evidence_max_mb"] <= 1.01 * CAP_MB  # so retention was at work
    assert set(report["roles"]) == ROLES
    assert {role["memory"]["trend"] for role in report["roles"].values()} <= {"flat", "grows", "unclear"}
    assert set(report["page_answers"]) <= {"200", "404"}

    samples = read((tmp_path / "samples.jsonl").read_text().splitlines())
    assert len(samples) == report["samples"] > 5
    for sample in samples:
        assert set(sample.roles) == ROLES
        assert all(process.rss_mb > process.uss_mb > 1 and process.fds > 3 for process in sample.roles.values())
    assert (tmp_path / "soak.png").stat().st_size > 10_000
