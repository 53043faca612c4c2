"""The benchmarks run; what they measure is not judged here (a timed assertion is no test)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(240)
def test_the_overhead_benchmark_measures_every_figure_of_its_table(tmp_path):
    script = ROOT / "benchmarks" / "overhead.py"
    options = ["--weights", "random", "--rounds", "1", "--seconds", "1", "--json", "found.json"]
    done = subprocess.run(
        [sys.executable, str(script), *options], cwd=tmp_path, capture_output=True, text=True, timeout=230, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert all(value > 0 for value in found["throughput"][0].values())
    assert found["latency_ms"]["verdicts"] > 0
    assert done.stdout.count("\n| ") >= 6
