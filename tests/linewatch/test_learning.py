"""`linewatch learn` from labelled alerts with real evidence to a candidate that is promoted, or not, and says why."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import structlog

from linewatch.cli import main
from storage.audits import Audits
from storage.config import StorageConfig
from storage.golden import GoldenSamples
from storage.history import START, Consequences, History
from storage.labels import Labels
from storage.models import Registry
from storage.records import Alert, AlertKind, Change, Label, Transition

FIT = ["fit", "--weights", "random", "--image-size", "48", "--device", "cpu", "--set", "dimensions=10"]


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def plate(seed: int, *, shine: bool = False, hole: bool = False) -> np.ndarray:
    picture = np.full((80, 80, 3), 120, np.uint8)
    cv2.circle(picture, (40, 40), 25, (200, 200, 200), -1)
    if shine:
        cv2.circle(picture, (40, 40), 10, (255, 255, 255), -1)
    if hole:
        cv2.rectangle(picture, (10, 10), (30, 30), (0, 0, 0), -1)
    return cv2.add(picture, np.random.default_rng(seed).integers(0, 6, picture.shape, np.uint8))


def plates(folder: Path, count: int, *, first: int) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:02}.png"), plate(first + i))
    return folder


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fitted")
    plates(root / "data/train/good", 16, first=0)
    plates(root / "data/calibration/good", 20, first=50)
    plates(root / "good", 20, first=200)
    return root


@pytest.fixture
def site(fitted: Path, tmp_path: Path) -> Path:
    """A line with a model of its own, two alerts of a known variation, one of a true defect and one of nobody's."""
    assert main([*FIT, "--data", str(fitted / "data"), "--out", str(tmp_path / "var/models/plate")]) == 0
    lines = "  - {id: a, source: synthetic:belt, model: plate, false_alarms: 20%}\n"
    (tmp_path / "linewatch.yaml").write_text(f"data: var/\nlines:\n{lines}", encoding="utf-8")
    evidence, transitions = tmp_path / "var/evidence", []
    pictures = [plate(900, shine=True), plate(901, shine=True), plate(902, hole=True), plate(903)]
    (evidence / "latest").mkdir(parents=True)
    cv2.imwrite(str(evidence / "latest/a.jpg"), plate(0))
    for number, picture in enumerate(pictures):
        folder = f"a/2026-01-01/1-{number}"
        (evidence / folder).mkdir(parents=True)
        cv2.imwrite(str(evidence / folder / "frame.jpg"), picture)
        now_ns = time.time_ns() + 10**9
        alert = Alert(
            id=f"a/1/{number}/defect",
            line="a",
            kind=AlertKind.DEFECT,
            text="Defect.",
            raised_ns=now_ns,
            cleared_ns=now_ns,
            worst_evidence=folder,
            model="plate@1",
        )
        transitions.append(Transition(change=Change.RAISED, alert=alert, at_ns=now_ns))
    history = History.open(StorageConfig(data=tmp_path / "var"))
    history.commit(Consequences(position="1-0", transitions=transitions), after=START)
    labels = Labels(history)
    for number, label in enumerate([Label.KNOWN_VARIATION, Label.FALSE_ALARM, Label.TRUE_DEFECT]):
        labels.label(f"a/1/{number}/defect", label, by="ann", now_ns=1)
    history.close()
    return tmp_path


def learn(site: Path, fitted: Path, *more: str) -> int:
    return main(["learn", str(site / "linewatch.yaml"), "a", "--data", str(fitted / "good"), "--device", "cpu", *more])


def golden(site: Path, name: str, picture: np.ndarray, expected: str) -> None:
    png = cv2.imencode(".png", picture)[1].tobytes()
    GoldenSamples(site / "var/golden").add("a", name, png, expected=expected, added_ns=1)  # type: ignore[arg-type]


def test_what_was_confirmed_is_learned_once_and_a_true_defect_never(
    site: Path, fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(site / "var/models")
    golden(site, "hole", plate(7, hole=True), "reject")
    golden(site, "plain", plate(8), "pass")
    capsys.readouterr()
    assert learn(site, fitted, "--promote") == 0
    said = capsys.readouterr().out
    assert "plate@2: plate@1 with 2 confirmed frames of line a" in said
    assert "a/2026-01-01/1-0" in said
    assert "a/2026-01-01/1-1" in said
    assert "1-2" not in said  # the true defect
    assert "1-3" not in said  # nobody said what it was
    assert "2 of 2 golden samples judged as expected" in said
    assert "plate@2: promoted" in said
    assert registry.current("plate") == 2
    assert registry.resolve("plate@2").manifest.metrics["learned_alerts"] == ["a/1/0/defect", "a/1/1/defect"]
    # Asked again, there is nothing new; and a change of mind after the fact is said aloud.
    assert learn(site, fitted) == 2
    assert "that plate@2 has not learned from" in capsys.readouterr().err
    config = str(site / "linewatch.yaml")
    assert main(["alerts", "label", config, "a/1/0/defect", "--as", "true-defect"]) == 0
    assert main(["alerts", "label", config, "a/1/3/defect", "--as", "false-alarm"]) == 0
    (site / "var/evidence/a/2026-01-01/1-3/frame.jpg").unlink()
    assert learn(site, fitted) == 2
    complaints = capsys.readouterr().err
    assert "plate@2 has learned from a/1/0/defect, now labelled a true defect" in complaints
    assert "left out: a/2026-01-01/1-3" in complaints
    assert registry.versions("plate") == [1, 2]


def test_a_golden_sample_that_is_missed_stands_in_the_way(
    site: Path, fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden(site, "plain", plate(8), "reject")
    assert learn(site, fitted, "--promote") == 1
    said = capsys.readouterr()
    assert "plate@2 is not promoted: line a: 0 of 1 golden samples judged as expected, missed: plain" in said.err
    assert Registry(site / "var/models").current("plate") == 1
    assert Registry(site / "var/models").versions("plate") == [1, 2]
    history = History.open(StorageConfig(data=site / "var"))
    (kept,) = Audits(history.database).results(line="a")
    assert (kept.model, kept.occasion, kept.missed) == ("plate@2", "learn", True)
    history.close()


def test_without_golden_samples_somebody_has_to_say_so(
    site: Path, fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert learn(site, fitted, "--promote") == 1
    assert "line a has no golden samples: record some with `linewatch golden`" in capsys.readouterr().err
    assert Registry(site / "var/models").current("plate") == 1
    assert learn(site, fitted, "--promote", "--without-golden") == 0  # the candidate before was not taken
    assert Registry(site / "var/models").current("plate") == 3


def test_good_images_to_calibrate_on_are_needed(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn", str(site / "linewatch.yaml"), "a"]) == 2
    assert "a few confirmed frames are too few to calibrate on: name good images with --data" in capsys.readouterr().err
    assert Registry(site / "var/models").versions("plate") == [1]
