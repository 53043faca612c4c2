"""The benchmarks run; what they measure is not judged here (a timed assertion is no test)."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_the_overhead_benchmark_measures_every_figure_of_its_table(tmp_path):
    script = ROOT / "benchmarks" / "overhead.py"
    options = ["--weights", "random", "--rounds", "1", "--seconds", "1", "--json", "found.json"]
    with subprocess.Popen(
        [sys.executable, str(script), *options], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            said, complained = process.communicate(timeout=230)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # it stops the system that it measures
            said, complained = process.communicate(timeout=60)
            pytest.fail(f"not done in time: {said}{complained}")
    assert process.returncode == 0, complained
    found = json.loads((tmp_path / "found.json").read_text())
    assert all(value > 0 for value in found["throughput"][0].values())
    assert found["latency_ms"]["verdicts"] > 0
    assert said.count("\n| ") >= 6
