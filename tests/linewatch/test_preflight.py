"""What `linewatch check` says of a line's model and of its promise about false alarms."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from inference.calibration import Calibration
from inference.config import JudgeConfig
from inference.false_alarms import parse_false_alarms
from linewatch.config import LineConfig
from linewatch.findings import Finding, Grade
from linewatch.preflight import _model, _promise
from storage.models import Bundle, Registry

IMAGES = Calibration.of(np.arange(400), "split")
VIDEO = Calibration.of_video(np.random.default_rng(0).normal(size=4000), frame_s=0.2)


def said(calibration: Calibration, asked: str, *, fps: float | None = 5.0, slack: float | None = None) -> list[Finding]:
    line = LineConfig(id="belt", source="synthetic:belt", model="m", false_alarms=asked)
    judge = JudgeConfig(line="belt", model="m", false_alarms=parse_false_alarms(asked), fps=fps, slack=slack)
    return list(_promise("line belt: model m", calibration, line, judge))


def test_a_promise_that_is_kept_is_good() -> None:
    (found,) = said(IMAGES, "1%")
    assert found.grade is Grade.GOOD
    assert "with 95 % confidence from 400 good images" in found.text


@pytest.mark.parametrize(
    ("calibration", "asked", "mend"),
    [(IMAGES, "1 in 10000", "29956 good images"), (VIDEO, "1 per 8h", "24 h of good video")],
)
def test_what_is_not_promised_names_the_data_it_takes(calibration: Calibration, asked: str, mend: str) -> None:
    (found,) = said(calibration, asked)
    assert found.grade is Grade.NOTE
    assert f"calibrate with {mend}, or accept more than `{asked}`" in str(found.mend)


def test_per_time_without_a_rate_is_bad() -> None:
    (found,) = said(IMAGES, "1 per 8h", fps=None)
    assert found.grade is Grade.BAD
    assert "`fps:`" in str(found.mend)


def test_a_video_model_knows_its_own_time() -> None:
    assert said(VIDEO, "1 per min", fps=None)[0].grade is Grade.GOOD


def test_evidence_that_cannot_add_up_and_a_faster_line_are_worth_a_note() -> None:
    assert "evidence does not add up" in said(IMAGES, "5%", slack=1.5)[1].text
    assert len(said(VIDEO, "5%", slack=1.5)) == 1
    assert "calibrated at 5 frames a second, the line has 10" in said(VIDEO, "5%", fps=10.0)[1].text


def test_a_model_of_another_version_is_bad(tmp_path: Path, plate_model: Bundle) -> None:
    shutil.copytree(plate_model.path.parent, tmp_path / "plate")
    file = tmp_path / "plate" / "1" / "manifest.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps(manifest | {"preprocessing": manifest["preprocessing"] | {"rotate": 90}}))
    line = LineConfig(id="belt", source="synthetic:belt", model="plate", false_alarms="1%")
    judge = JudgeConfig(line="belt", model="plate", false_alarms=parse_false_alarms("1%"))
    (found,) = _model(Registry(tmp_path), line, judge)
    assert found.grade is Grade.BAD
    assert "preprocessing of plate@1 does not fit this version" in found.text
