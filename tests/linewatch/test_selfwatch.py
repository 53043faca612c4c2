"""A role without a supervisor: a loop that stands still ends the process."""

import os
import subprocess
import sys
import textwrap

import pytest

from linewatch.progress import VARIABLE, Page
from linewatch.selfwatch import HUNG

ROLE = """
    import sys, threading, time
    from linewatch import telemetry
    from linewatch.selfwatch import watched
    from linewatch.silence import Patience
    telemetry.configure("capture", "a")
    stop = threading.Event()
    with watched(Patience(silent_s=1.0, start_s=2.0), stop) as progress:
        match sys.argv[1]:
            case "hangs":
                progress.moves("publisher")
            case "waits":
                progress.waits("grab")
            case "ends":
                progress.moves("publisher")
                stop.set()
        if sys.argv[1] != "over":
            time.sleep(600 if sys.argv[1] in ("hangs", "mute") else 4)
    time.sleep(4)
"""


def run(how: str, **settings) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE} | settings.pop("env", {})
    command = [sys.executable, "-c", textwrap.dedent(ROLE), how]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment, **settings)


@pytest.mark.parametrize(
    ("how", "why"), [("hangs", "no turn of publisher within 1 s"), ("mute", "has not begun its work after 2 s")]
)
def test_a_loop_that_stands_still_ends_the_process(how, why):
    done = run(how)
    assert done.returncode == HUNG
    assert why in done.stdout + done.stderr


@pytest.mark.parametrize("how", ["waits", "ends", "over"])
def test_who_waits_for_a_camera_is_ending_or_has_ended_is_left_alone(how):
    assert run(how).returncode == 0


def test_who_has_a_supervisor_is_watched_by_that():
    page = Page()
    done = run("ends", pass_fds=(page.file,), env={VARIABLE: str(page.file)})
    assert done.returncode == 0
    assert set(page.look()) == {"publisher"}
    page.close()
