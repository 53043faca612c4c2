"""A role that is asked to end before it has begun (importing torch takes seconds), or that runs already."""

import signal
import subprocess
import sys
import textwrap

import pytest

from linewatch.cli import main
from linewatch.datafolder import only

PATIENCE_S = 30.0
SLOW = """
    import sys, time

    class Slow:
        def find_spec(name, path, target=None):
            if name == slow:
                print("loading", flush=True)
                time.sleep(600)

    slow = sys.argv.pop(1)
    sys.meta_path.insert(0, Slow)
    from linewatch.cli import main
    sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("role", "slow"),
    [
        (["worker", "--name", "w0"], "inference.worker"),
        (["capture", "--line", "a"], "ingest.service"),
        (["alerts"], "alerts.service"),
    ],
)
def test_a_role_that_still_loads_ends_at_once(tmp_path, role, slow, number):
    config = tmp_path / "linewatch.yaml"
    config.write_text("data: var/\nlines: [{id: a, source: 'synthetic:belt?fps=2', model: m}]\nalerts: {page: null}\n")
    command = [sys.executable, "-P", "-c", textwrap.dedent(SLOW), slow, role[0], str(config), *role[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "loading\n" in iter(process.stdout.readline, "")
            process.send_signal(number)
            assert process.wait(PATIENCE_S) == 128 + number
        finally:
            process.kill()


def test_a_line_is_captured_once(tmp_path, capsys):
    config = tmp_path / "linewatch.yaml"
    lines = ", ".join(f"{{id: {name}, source: 'synthetic:belt?frames=1', model: m}}" for name in "ab")
    config.write_text(f"data: d/\nlines: [{lines}]\nalerts: {{page: null}}\n")
    with only(tmp_path / "d" / "journal", "capture", "a"):
        assert main(["capture", str(config), "--line", "a"]) != 0
    assert "`linewatch capture` of a runs here already" in " ".join(capsys.readouterr().err.split())
