"""`linewatch replay`: a recording through camera checks, detector and rules, in its own time."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import structlog

from alerts.config import AlertRules
from inference.config import JudgeConfig
from inference.engine import Engine
from inference.false_alarms import parse_false_alarms
from ingest.config import CaptureConfig
from linewatch.cli import main
from linewatch.replay import BEGIN_NS, Replay, Replayed
from storage.models import Bundle
from storage.records import AlertKind
from tests.plates import plate, write_plates

FPS = 5.0
DEFECTS = range(10, 14)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Each command points the logs of this process at its own stderr."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def config(tmp_path: Path, plate_model: Bundle) -> Path:
    shutil.copytree(plate_model.path.parent, tmp_path / "data" / "models" / "plate")
    file = tmp_path / "linewatch.yaml"
    file.write_text(
        "data: data/\n"
        "lines:\n"
        "  - {id: press, source: recording/, model: plate, false_alarms: 5%, alert: {clear_after: 1s}}\n"
    )
    write_plates(tmp_path / "recording", 40, defects=tuple(DEFECTS), first=500)
    return file


def replayed(plate_model: Bundle, pictures: list[np.ndarray | None], **alert: object) -> Replayed:
    judge = JudgeConfig(line="press", model="plate", false_alarms=parse_false_alarms("5%"))
    capture = CaptureConfig(id="press", source="recording/", frozen_after_s=1.0)
    rules = AlertRules.model_validate({"clear_after": "1s", **alert})
    engine = Engine(plate_model, device="cpu")
    return Replay(capture, judge, rules, engine=engine, fps=FPS, batch=3).run(pictures)


def test_a_defect_over_several_frames_is_one_event_in_the_recordings_own_time(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(config), "press", "--fps", "5", "--device", "cpu", "--json"]) == 0
    alerts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (event,) = [alert for alert in alerts if alert["kind"] == "defect" and alert["count"] == len(DEFECTS)]
    assert event["started_ns"] == BEGIN_NS + round(10 / FPS * 1e9)
    assert event["ended_ns"] == BEGIN_NS + round(13 / FPS * 1e9)
    assert event["worst_score"] > event["threshold"]


def test_the_report_shows_each_event_with_its_picture(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html = tmp_path / "out.html"
    arguments = ["replay", str(config), "press", "--fps", "5", "--device", "cpu", "--html", str(html)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "40 frames, 8.0 s" in said
    assert "defect" in said
    assert f"written: {html}" in said
    assert html.read_text().count("data:image/jpeg") >= 1


def test_replaying_again_says_the_same(plate_model: Bundle) -> None:
    pictures: list[np.ndarray | None] = [plate(500 + n, defect=n in DEFECTS) for n in range(25)]
    first, second = replayed(plate_model, pictures), replayed(plate_model, pictures)
    assert [alert.model_dump() for alert in first.line.alerts] == [a.model_dump() for a in second.line.alerts]
    assert first.pictures == second.pictures
    assert first.line.timeline == second.line.timeline


def test_every_frame_is_counted_also_one_that_cannot_be_decoded(plate_model: Bundle) -> None:
    pictures: list[np.ndarray | None] = [plate(500 + n) for n in range(9)]
    pictures[4] = None
    found = replayed(plate_model, pictures)
    counts = found.line.verdicts
    assert counts.passed + counts.rejected + counts.unknown == found.frames == 9
    assert found.line.reasons["corrupt"] == 1


def test_a_frozen_feed_is_a_frozen_camera_and_no_defect(plate_model: Bundle) -> None:
    still = plate(500)
    found = replayed(plate_model, [plate(600 + n) for n in range(10)] + [still] * 15)
    kinds = [alert.kind for alert in found.line.alerts]
    assert AlertKind.CAMERA_FROZEN in kinds
    (frozen,) = [alert for alert in found.line.alerts if alert.kind is AlertKind.CAMERA_FROZEN]
    assert (frozen.raised_ns - BEGIN_NS) / 1e9 - 10 / FPS <= 2.0


def test_a_video_is_read_as_fast_as_it_goes_and_thinned_like_the_camera(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "recording.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 96))
    for n in range(20):
        writer.write(plate(500 + n))
    writer.release()
    config.write_text(config.read_text().replace("model: plate", "model: plate, fps: 5"))
    assert main(["replay", str(config), "press", str(video), "--device", "cpu"]) == 0
    assert "10 frames, 2.0 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["press"], "add --fps"),
        (["press", "synthetic:belt"], "is a camera, not a recording"),
        (["press", "nowhere.mp4"], "nowhere.mp4"),
        (["other"], "no line 'other'"),
    ],
)
def test_wrong_requests_are_one_line(
    config: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(config), *arguments, "--device", "cpu"]) in (1, 2)
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
