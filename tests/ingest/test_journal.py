import os
import signal
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from ingest.journal import RunJournal, leftovers, next_run


def test_a_settled_run_leaves_nothing_and_an_unsettled_one_its_count(tmp_path):
    done = RunJournal(tmp_path, line="a", run="0" * 16)
    done.advance(7)
    done.close(settled=True)
    broken = RunJournal(tmp_path, line="a", run="1" * 16)
    broken.advance(3)
    broken.close(settled=False)
    [left] = leftovers(tmp_path, line="a")
    assert (left.run, left.next_seq) == ("1" * 16, 3)
    assert list(leftovers(tmp_path, line="b")) == []
    left.forget()
    assert list(tmp_path.iterdir()) == []


def test_the_count_survives_sigkill(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from ingest.journal import RunJournal\n"
        "j = RunJournal(Path(sys.argv[1]), line='a', run='f' * 16)\n"
        "[j.advance(n + 1) for n in range(1234)]; print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    [left] = leftovers(tmp_path, line="a")
    assert left.next_seq == 1234


def test_a_file_cut_short_while_being_created_is_no_run(tmp_path):
    (tmp_path / "a@0000000000000000.run").write_bytes(b"lwr")
    assert list(leftovers(tmp_path, line="a")) == []
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_journal_is_said(tmp_path):
    for size in (16, 4096):
        (tmp_path / f"cam@{size:016x}.run").write_bytes(b"x" * size)
    with RunJournal(tmp_path, line="cam", run="f" * 16) as absurd:
        absurd.advance(2**40)
    with capture_logs() as logs:
        assert list(leftovers(tmp_path, line="cam")) == []
    assert [entry["bytes"] for entry in logs] == [16, 4096, 16]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step_ns", [1, 0, -3_600_000_000_000])
def test_runs_sort_by_their_start_whatever_the_clock_does(tmp_path, step_ns):
    now_ns = 1_800_000_000_000_000_000
    first = next_run(tmp_path, line="a", wall_ns=now_ns)
    second = next_run(tmp_path, line="a", wall_ns=now_ns + step_ns)
    assert first < second
    assert next_run(tmp_path, line="b", wall_ns=now_ns) == first  # each line has its own order
    assert list(leftovers(tmp_path, line="a")) == []


@pytest.mark.parametrize("torn", [b"", b"\xff" * 16, b"12", b"g" * 16])
def test_a_torn_note_of_the_last_run_is_passed_over(tmp_path, torn):
    (tmp_path / "a.latest").write_bytes(torn)
    assert next_run(tmp_path, line="a", wall_ns=255) == f"{255:016x}"
