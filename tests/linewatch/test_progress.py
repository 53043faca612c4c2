"""Progress of a role: told by real processes through the page, and what silence means."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linewatch.progress import VARIABLE, Loop, Page, Progress
from linewatch.silence import Silence

CHILD = """
    import sys
    from linewatch.progress import Progress
    progress = Progress.open()
    for word in sys.stdin.read().split():
        how, loop = word.split(":")
        getattr(progress, how)(loop)
"""


def test_what_a_child_tells_is_seen_and_no_process_of_its_own_inherits_it():
    page = Page()
    environment = {**os.environ, VARIABLE: str(page.file)}
    command = [sys.executable, "-c", textwrap.dedent(CHILD)]
    words = "moves:link moves:link waits:grab moves:recorder"
    subprocess.run(command, input=words, text=True, pass_fds=(page.file,), env=environment, check=True)
    assert page.look() == {"link": Loop(2, waits=False), "grab": Loop(1, waits=True), "recorder": Loop(1, waits=False)}
    page.close()


def test_without_a_supervisor_telling_is_harmless(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    progress = Progress.open()
    progress.moves("link")
    progress.waits("link")


def test_the_offer_is_taken_once(monkeypatch):
    page = Page()
    monkeypatch.setenv(VARIABLE, str(os.dup(page.file)))
    Progress.open().moves("a")
    assert VARIABLE not in os.environ
    assert page.look() == {"a": Loop(1, waits=False)}
    page.close()


def test_threads_share_a_page_without_taking_each_others_slot(monkeypatch):
    page = Page()
    monkeypatch.setenv(VARIABLE, str(os.dup(page.file)))
    progress = Progress.open()
    names = [f"loop {n}" for n in range(8)]
    threads = [threading.Thread(target=lambda name=name: [progress.moves(name) for _ in range(500)]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert page.look() == {name: Loop(500, waits=False) for name in names}
    page.close()


def watch(silence: Silence, loops: dict[str, Loop], seconds: float, *, start: float, step: float = 0.5) -> str | None:
    now = start
    while now < start + seconds:
        why = silence.look(loops, now)
        if why is not None:
            return why
        now += step
    return None


def test_a_loop_that_stands_still_counts_as_hung_and_one_that_waits_does_not():
    loops = {"publisher": Loop(3, waits=False), "grab": Loop(5, waits=True)}
    silence = Silence(start_s=120, silent_s=20)
    assert watch(silence, loops, 19, start=100) is None
    assert watch(silence, loops, 3, start=119) == "no turn of publisher within 20 s"
    assert watch(Silence(), {"grab": Loop(5, waits=True)}, 10_000, start=0) is None


def test_one_loop_that_turns_does_not_hide_one_that_stands_still():
    silence = Silence(silent_s=20)
    answers = [silence.look({"a": Loop(n, waits=False), "b": Loop(1, waits=False)}, n * 0.5) for n in range(60)]
    assert answers[30] is None
    assert "no turn of b within 20 s" in answers


def test_a_start_has_its_own_allowance():
    silence = Silence(start_s=120, silent_s=20)
    assert watch(silence, {}, 119, start=0) is None
    assert watch(silence, {}, 10, start=119) == "has not begun its work after 120 s"


@given(pauses=st.lists(st.floats(5, 1e6), min_size=1, max_size=5))
def test_a_supervisor_that_was_paused_blames_nobody(pauses):
    silence, now = Silence(silent_s=20), 0.0
    loops = {"a": Loop(1, waits=False)}
    for pause in pauses:
        assert silence.look(loops, now) is None
        now += pause
    assert silence.look(loops, now) is None


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 2)), max_size=200))
def test_the_verdict_is_the_watched_time_since_the_last_turn(looks):
    silence, now, turns, quiet = Silence(silent_s=20), 0.0, 0, 0.0
    silence.look({"a": Loop(turns, waits=False)}, now)
    for turned, step in looks:
        now += step
        turns += turned
        quiet = 0.0 if turned else quiet + step
        why = silence.look({"a": Loop(turns, waits=False)}, now)
        if abs(quiet - 20) > 1e-6:
            assert (why is not None) == (quiet > 20)


def test_a_name_that_does_not_fit_is_cut_not_spilled(monkeypatch):
    page = Page()
    monkeypatch.setenv(VARIABLE, str(os.dup(page.file)))
    Progress.open().moves("x" * 40)
    assert page.look() == {"x" * 24: Loop(1, waits=False)}
    page.close()


@pytest.mark.parametrize("number", [signal.SIGSTOP])
def test_a_stopped_child_is_seen_as_silent(number):
    page = Page()
    program = "import time\nfrom linewatch.progress import Progress\np = Progress.open()\n"
    program += "while True:\n    p.moves('a')\n    time.sleep(0.001)\n"
    child = subprocess.Popen(
        [sys.executable, "-c", program], pass_fds=(page.file,), env={**os.environ, VARIABLE: str(page.file)}
    )
    try:
        while not page.look():
            assert child.poll() is None
        os.kill(child.pid, number)
        os.waitpid(child.pid, os.WUNTRACED)  # it has stopped
        silence = Silence(silent_s=5)
        assert watch(silence, dict(page.look()), 6, start=0) == "no turn of a within 5 s"
    finally:
        child.kill()
        child.wait()
        page.close()
