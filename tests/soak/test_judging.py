"""What has to hold in a soak, each fault once; and that the picture can be drawn."""

import json
from dataclasses import replace

import cv2
import pytest

from storage.records import LineState
from tests.soak.drawing import draw
from tests.soak.judging import Ending, judge
from tests.soak.samples import Process, Sample, SampleFile, read

ROLES = ["capture a", "worker w0", "alerts", "redis", "supervisor"]
CAP_MB = 20.0
MINUTES = 60


def run(minutes=MINUTES):
    """A run in which everything holds."""
    return [
        Sample(
            at_s=at_s,
            roles={
                role: Process(
                    pid=10 + n, rss_mb=100.0 * (n + 1), uss_mb=90.0, fds=20 + n, threads=6, cpu_s=0.2 * at_s + n
                )
                for n, role in enumerate(ROLES)
            },
            evidence_mb=min(CAP_MB, at_s / 10),
            redis_mb=6.0,
            stream=10_000,
            wal_mb=4.2,
            history_mb=at_s / 3600,
            log_mb=at_s / 36_000,
            frames=100 * at_s,
            lost=20 * at_s,
        )
        for at_s in range(0, minutes * 60 + 1, 5)
    ]


def ending(**over):
    state = LineState(line="a", captured=360_000, passed=250_000, rejected=10_000, unknown=60_000, skipped=40_000)
    return replace(Ending([state], counted=320_000, exit_code=0, visits={200: 99}), **over)


def judged(samples, end=None):
    return judge(samples, end or ending(), cap_mb=CAP_MB, roles=ROLES)


def changed(samples, at, role="alerts", **over):
    """The same samples, but from number `at` on a process or the sample is different."""
    after = []
    for number, sample in enumerate(samples):
        if number < at:
            after.append(sample)
        elif role is None:
            after.append(replace(sample, **over))
        else:
            grown = {name: value(sample) for name, value in over.items()}
            after.append(replace(sample, roles={**sample.roles, role: replace(sample.roles[role], **grown)}))
    return after


def test_a_run_in_which_everything_holds_is_ok():
    report = judged(run())
    assert report.faults == []
    assert report.ok
    assert report.minutes == MINUTES
    assert report.frames_per_s == pytest.approx(100)
    assert report.lost_share == pytest.approx(0.2)
    assert report.cores_busy == pytest.approx(0.2 * len(ROLES))
    assert report.log_mb_per_h == pytest.approx(0.1)
    assert all(role.flat for role in report.roles.values())
    told = json.loads(json.dumps(report.dump(), allow_nan=False))
    assert told["ok"]
    assert told["roles"]["worker w0"]["flat"]
    assert told["roles"]["worker w0"]["memory"]["trend"] == "flat"
    assert told["evidence_max_mb"] == told["evidence_cap_mb"] == CAP_MB


def test_a_leak_of_ten_megabytes_an_hour_is_a_fault_of_a_long_run_only():
    def leaking(samples):
        return changed(samples, 0, rss_mb=lambda sample: 300 + 10 * sample.at_s / 3600)

    report = judged(leaking(run()))
    assert report.faults == ["alerts: memory grows, +10.0 MB/h [10.0, 10.0]"]
    assert not report.roles["alerts"].flat
    assert judged(leaking(run(minutes=10))).ok  # measured and shown, but too short to tell


@pytest.mark.parametrize(
    ("samples", "end", "fault"),
    [
        (changed(run(), 600, fds=lambda _: 23), None, "alerts: file descriptors grow, 22 to 23"),
        (changed(run(), 600, threads=lambda _: 7), None, "alerts: threads grow"),
        (changed(run(), 300, None, evidence_mb=CAP_MB * 1.02)[:302] + run()[302:], None, "evidence: 20.4 MB"),
        (changed(run(), 600, None, wal_mb=40.0), None, "history's write-ahead log: 40.0 MB"),
        (changed(run(), 600, None, stream=50_000), None, "verdict stream: 50000.0 entries"),
        (changed(run(), 600, None, restarts=1), None, "1 restarts"),
        (run(), ending(counted=319_999), "1 of 360000 frames unaccounted for"),
        (run(), ending(states=[LineState(line="a", captured=5)], counted=0), "5 of 5 frames unaccounted for"),
        (run(), ending(exit_code=1), "linewatch up ended with 1"),
        (run(), ending(failures={"/: 500": 2}), "page: /: 500, 2 times"),
    ],
)
def test_each_fault_is_said_once(samples, end, fault):
    report = judged(samples, end)
    assert not report.ok
    assert len(report.faults) == 1
    assert report.faults[0].startswith(fault)


def test_redis_data_that_grows_is_a_fault():
    samples = [replace(sample, redis_mb=6 + sample.at_s / 60) for sample in run()]
    assert [fault.partition(",")[0] for fault in judged(samples).faults] == ["redis' data: memory grows"]


def test_a_process_that_is_not_in_every_sample_is_a_fault():
    samples = run()
    without = {name: process for name, process in samples[100].roles.items() if name != "redis"}
    samples[100] = replace(samples[100], roles=without)
    assert judged(samples).faults == ["redis: missing in 1 of 721 samples"]


def test_a_successor_s_processor_time_begins_anew():
    samples = changed(run(), 360, pid=lambda _: 99, cpu_s=lambda sample: 0.2 * (sample.at_s - 1800))
    assert judged(samples).cores_busy == pytest.approx(0.2 * len(ROLES), abs=0.001)


def test_samples_come_back_from_their_file(tmp_path):
    kept = SampleFile(tmp_path / "samples.jsonl")
    for sample in run(minutes=1):
        kept.add(sample)
    assert read(kept.path.read_text().splitlines()) == kept.samples == run(minutes=1)


def test_the_picture_is_drawn(tmp_path):
    samples = run()
    draw(samples, judged(samples), tmp_path / "soak.png")
    picture = cv2.imread(str(tmp_path / "soak.png"))
    assert picture.shape == (1080, 1320, 3)
    assert picture.std() > 10
