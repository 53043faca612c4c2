"""The short form of `make fuzz`, and that it finds what it looks for."""

import json
import subprocess
import sys
from pathlib import Path

from ingest import wire
from ingest.errors import WireError
from tests.fuzz import inputs as making
from tests.fuzz.__main__ import Report, examine
from tests.fuzz.inputs import inputs, too_large

ROOT = Path(__file__).parents[2]


def test_twenty_thousand_hostile_messages_leave_a_worker_as_it_was(tmp_path):
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.fuzz", "--inputs", "20000", "--seed", "1", "--report", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text(encoding="utf-8"))
    assert (report["inputs"], report["crashes"], report["verdicts"]) == (20_000, 0, 0)
    assert report["refused"] + report["valid"] == 20_000
    assert (report["dropped"], report["cut_off"]) == (19_999, 1)
    assert report["valid"] < 2000
    assert report["judges_still"]


def test_the_same_seed_gives_the_same_inputs():
    assert list(inputs(3, 200)) == list(inputs(3, 200)) != list(inputs(4, 200))


def test_what_is_valid_after_all_is_sent_where_it_cannot_be_judged():
    report = Report(seed=0)
    sent = [examine(report, parts) for parts in inputs(0, 5000)]
    assert report.valid > 0
    lines = set()
    for parts in sent:
        try:
            lines.add(wire.unpack(parts)[0].line)
        except WireError:
            continue
    assert lines == {"elsewhere"}


def test_payloads_as_large_as_the_wire_lets_through_and_larger_are_among_them(monkeypatch):
    monkeypatch.setattr(making, "LARGE_EVERY", 4)
    sizes, refused = set(), 0
    for parts in inputs(0, 160):
        size = max(map(len, parts))
        if size > 2**25:
            sizes.add(size - wire.MAX_PAYLOAD_BYTES)
            report = Report(seed=0)
            examine(report, parts)
            assert too_large(parts) == (size > wire.MAX_PAYLOAD_BYTES)
            assert report.crashes == 0
            assert report.refused or not too_large(parts)
            refused += report.refused
        else:
            assert not too_large(parts)
    assert sizes == {-(2**20), -1, 0, 1, 2**20}
    assert 20 < refused < 40  # a picture has no shape that its size must fit


def test_anything_but_a_refusal_is_a_crash(monkeypatch):
    def broken(_):
        raise KeyError("kind")

    monkeypatch.setattr(wire, "unpack", broken)
    report = Report(seed=0, judges_still=True)
    assert report.clean
    examine(report, [b"x"])
    assert (report.crashes, report.clean) == (1, False)
    assert "KeyError" in report.examples[0]
