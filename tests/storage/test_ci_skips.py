"""With CI=true a skip fails the run: a check that silently stops being made is worse than a red one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"


@pytest.mark.parametrize(("ci", "code", "said"), [("true", 1, True), ("", 0, False)])
def test_a_skip_fails_only_in_ci(ci: str, code: int, said: bool, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "test_skip.py").write_text(
        "import pytest\n\ndef test_one():\n    assert True\n\ndef test_two(shared):\n    assert shared\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_"))}
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment | {"CI": ci, "LINEWATCH_SHARED": "/nowhere", "PYTHONPATH": str(CONFTEST.parents[1])},
        cwd=tmp_path,
    )
    assert found.returncode == code, found.stdout + found.stderr
    assert ("CI lets nothing be skipped" in found.stdout) is said
    assert ("/nowhere is absent" in found.stdout.partition("CI lets nothing")[2]) is said
