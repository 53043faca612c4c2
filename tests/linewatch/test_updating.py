import logging
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import structlog

from linewatch.cli import main

FIT = ["fit", "--weights", "random", "--image-size", "64", "--device", "cpu"]


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Each command points the logs of this process at its own stderr."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def plates(folder: Path, count: int, *, first: int) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        picture = np.full((80, 80, 3), 120, np.uint8)
        cv2.circle(picture, (40, 40), 25, (200, 200, 200), -1)
        noise = np.random.default_rng(first + i).integers(0, 6, picture.shape, np.uint8)
        cv2.imwrite(str(folder / f"{i:02}.png"), cv2.add(picture, noise))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> str:
    out = str(tmp_path / "models/plate")
    plates(tmp_path / "data/train/good", 16, first=0)
    plates(tmp_path / "data/calibration/good", 20, first=50)
    assert main([*FIT, "--set", "dimensions=10", "--data", str(tmp_path / "data"), "--out", out]) == 0
    return out


def test_update_says_what_was_learned_what_is_promised_and_what_to_do_next(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = plates(tmp_path / "new", 40, first=200)
    capsys.readouterr()
    command = ["update", model, "--data", str(new), "--half-life", "50", "--device", "cpu", "--false-alarms", "40%"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "plate@2: plate@1 updated with 32 good images" in said
    assert "confidence from 8 good images" in said
    (counted,) = [line for line in said.splitlines() if "plate@1 would have rejected" in line]
    rejected = re.search(r"rejected (\d+) of the 40 new images", counted)
    assert rejected is not None
    assert ("make sure that they are good" in counted) == (int(rejected[1]) > 0)
    assert f"linewatch models promote {model}@2" in said
    assert main(["models", "promote", f"{model}@2"]) == 0
    assert main([*command[:-1], "50%"]) == 2  # the promoted version has learned from these
    assert "plate@2 has learned from" in capsys.readouterr().err


def test_requests_that_cannot_be_met_are_one_line(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = plates(tmp_path / "new", 8, first=200)
    gallery = str(tmp_path / "models/gallery")
    assert main([*FIT, "--detector", "spade", "--data", str(tmp_path / "data"), "--out", gallery]) == 0
    for arguments, code, complaint in (
        ([gallery, "--data", str(new), "--device", "cpu"], 2, "gallery@1 is spade, which cannot learn on"),
        ([model, "--data", str(tmp_path / "data")], 2, "the very images plate@1 has learned from"),
        ([model, "--data", str(new), "--half-life", "0.2"], 2, "--half-life"),
        ([f"{model}@7", "--data", str(new)], 2, "no version 7 of plate"),
        ([model, "--data", str(new), "--false-alarms", "soon"], 2, "false alarms 'soon' is not understood"),
    ):
        capsys.readouterr()
        assert main(["update", *arguments]) == code
        complaints = [line for line in capsys.readouterr().err.splitlines() if line.startswith("linewatch: ")]
        assert len(complaints) == 1
        assert complaint in complaints[0]
