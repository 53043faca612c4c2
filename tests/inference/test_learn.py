"""Learning from confirmed frames: what is learned, what never is, what a candidate must keep."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from structlog.testing import capture_logs

from inference.calibration import Calibration
from inference.engine import Engine
from inference.errors import DataError, EngineError
from inference.threshold import Threshold
from inference.training.confirmed import Frame, confirmed_frames, pictures
from inference.training.fit import fit_model
from inference.training.learn import Learned, findings, learn
from inference.training.recipe import recipe
from inference.training.update import LEARNED_ALERTS, LEARNING_SINCE, learned_alerts, learning_since, update_model
from ingest.preprocess import Preprocessing, prepare
from storage.models import Bundle, Registry
from storage.records import Alert, AlertKind, Label

SMALL = Preprocessing(size=(48, 32))
OPTIONS = {"dimensions": 10, "layers": ["layer1", "layer2"]}


def shot(seed: int, *, spot: bool = False) -> np.ndarray:
    """What a camera of 120x80 sees: noise, and on a known variation a bright spot."""
    noise = np.random.default_rng(seed).integers(-20, 21, (80, 120, 3))
    picture = np.clip(100 + noise, 0, 255).astype(np.uint8)
    if spot:
        cv2.circle(picture, (60, 40), 18, (200, 200, 200), -1)
    return picture


def folder_of(folder: Path, count: int, *, first: int) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:03}.png"), shot(first + i))
    return folder


def fitted(data: Path, out: Path, detector: str = "padim", **options: object) -> Bundle:
    made = recipe(detector, options or OPTIONS, preprocessing=SMALL, weights="random", device="cpu")
    with capture_logs():
        return fit_model(made, str(data), out)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    folder_of(root / "train/good", 24, first=0)
    folder_of(root / "calibration/good", 20, first=1000)
    folder_of(root / "new/calibration/good", 40, first=2000)
    return root


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Version 1; learning writes further ones, of which no test minds the number."""
    return fitted(data, tmp_path_factory.mktemp("models") / "plate")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return [Frame(f"a/1/{i}/defect", f"a/d/1-{i}", prepare(shot(3000 + i, spot=True), SMALL)) for i in range(4)]


def learned_from(model: Bundle, frames: list[Frame], data: Path) -> Learned:
    return learn(model, frames, str(data / "new"), device="cpu")


@pytest.fixture(scope="module")
def learned(model: Bundle, frames: list[Frame], data: Path) -> Learned:
    before = {path: path.read_bytes() for path in model.path.rglob("*") if path.is_file()}
    found = learned_from(model, frames, data)
    assert all(path.read_bytes() == content for path, content in before.items()), "the model it came from has changed"
    return found


@pytest.fixture(scope="module")
def limit(learned: Learned) -> Threshold:
    return Calibration.model_validate(learned.bundle.calibration()).threshold(0.05)


def test_what_was_confirmed_scores_lower_and_what_was_good_stays_good(learned: Learned, limit: Threshold) -> None:
    assert (learned.before > 2 * limit.threshold).all()
    assert (learned.after < learned.before / 2).all()
    found = {one.name: one for one in findings(learned, Engine(learned.bundle, device="cpu"), limit)}
    assert all(one.kept for one in found.values()), found
    assert "32 of 32 reference images are judged from disk as in memory" in found["parity"].said
    assert "4 score lower" in found["confirmed"].said


def test_a_candidate_is_written_and_not_promoted(learned: Learned, model: Bundle, frames: list[Frame]) -> None:
    registry = Registry(model.path.parent.parent)
    assert registry.current("plate") == 1
    assert registry.resolve(learned.bundle.ref).manifest == learned.bundle.manifest
    manifest = learned.bundle.manifest
    assert manifest.n_train == model.manifest.n_train + 4
    assert manifest.metrics["updated_from"] == 1
    assert manifest.metrics[LEARNED_ALERTS] == [frame.alert for frame in frames]
    assert manifest.metrics[LEARNING_SINCE] == model.manifest.created
    assert len(Calibration.model_validate(learned.bundle.calibration()).scores) == 40


def test_versions_remember_what_their_ancestors_learned(
    model: Bundle, frames: list[Frame], data: Path, tmp_path: Path
) -> None:
    first = learned_from(model, frames[:2], data).bundle
    second = learned_from(first, frames[2:], data).bundle
    third = update_model(second, str(folder_of(tmp_path / "more", 10, first=5000)), device="cpu")
    for bundle in (second, third):
        assert learned_alerts(bundle) == [frame.alert for frame in frames]
        assert learning_since(bundle) == model.manifest.created


def test_a_candidate_that_is_not_what_was_measured_is_found_out(
    learned: Learned, limit: Threshold, model: Bundle
) -> None:
    # The model it came from stands in for a file that went wrong.
    found = {one.name: one.kept for one in findings(learned, Engine(model, device="cpu"), limit)}
    assert not found["parity"]


def test_good_images_that_are_lost_are_found_out(learned: Learned, limit: Threshold) -> None:
    strict = limit.model_copy(update={"threshold": float(np.median(learned.scores))})
    found = {one.name: one.kept for one in findings(learned, Engine(learned.bundle, device="cpu"), strict)}
    assert found == {"parity": True, "references": False, "confirmed": True}


def test_frames_that_score_no_lower_are_found_out(learned: Learned, limit: Threshold) -> None:
    engine, nothing_passes = Engine(learned.bundle, device="cpu"), limit.model_copy(update={"threshold": -1.0})
    assert {one.name: one.kept for one in findings(learned, engine, nothing_passes)}["confirmed"]
    worse = dataclasses.replace(learned, before=learned.after - 1)
    assert not {one.name: one.kept for one in findings(worse, engine, nothing_passes)}["confirmed"]


def test_what_cannot_be_learned_from(model: Bundle, frames: list[Frame], data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 1 confirmed frames can be learned from"):
        learn(model, [Frame("a", "b", None, "gone")], str(data / "new"), device="cpu")
    (tmp_path / "no/train").mkdir(parents=True)
    with pytest.raises(DataError, match="has no calibration/good"):
        learn(model, frames, str(tmp_path / "no"), device="cpu")
    gallery = fitted(data, tmp_path / "models/gallery", "spade", neighbours=3)
    with pytest.raises(EngineError, match="spade, which cannot learn on"):
        learn(gallery, frames, str(data / "new"), device="cpu")
    assert Registry(tmp_path / "models").versions("gallery") == [1]


# --- from alerts to frames -------------------------------------------------------------------------------------


def alert(number: int, label: Label | None, *, evidence: str | None = None, worst: str | None = None) -> Alert:
    return Alert(
        id=f"a/1/{number}/defect",
        line="a",
        kind=AlertKind.DEFECT,
        text="Defect.",
        raised_ns=number,
        label=label,
        evidence=evidence,
        worst_evidence=worst,
    )


def keep(evidence: Path, folder: str, picture: np.ndarray) -> str:
    (evidence / folder).mkdir(parents=True)
    cv2.imwrite(str(evidence / folder / "frame.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 100])
    return folder


def test_frames_are_prepared_as_capture_would(tmp_path: Path) -> None:
    view = SMALL.model_copy(update={"roi": (10, 10, 110, 70)})
    (tmp_path / "latest").mkdir()
    cv2.imwrite(str(tmp_path / "latest/a.jpg"), shot(0))
    full = keep(tmp_path, "a/d/1-1", shot(1, spot=True))
    small = keep(tmp_path, "a/d/1-2", cv2.cvtColor(prepare(shot(2), view), cv2.COLOR_RGB2BGR))
    strange = keep(tmp_path, "a/d/1-3", np.zeros((50, 50, 3), np.uint8))
    alerts = [
        alert(1, Label.FALSE_ALARM, evidence=full, worst=small),
        alert(2, Label.KNOWN_VARIATION, evidence=strange, worst="a/d/1-9"),
        alert(3, Label.FALSE_ALARM, evidence=full),
        alert(4, Label.FALSE_ALARM),
    ]
    frames = confirmed_frames(alerts, tmp_path, view)
    assert [frame.evidence for frame in frames] == [small, full, "a/d/1-9", strange]
    assert [frame.alert for frame in frames] == [alerts[0].id] * 2 + [alerts[1].id] * 2
    usable = list(pictures(frames))
    for picture, seed, spot in ((usable[0], 2, False), (usable[1], 1, True)):
        expected = prepare(shot(seed, spot=spot), view)
        assert np.abs(picture.astype(int) - expected).mean() < 3  # JPEG
    assert "neither the camera's size nor the model's" in frames[3].reason
    assert frames[2].picture is None


def test_a_picture_that_may_have_been_cut_or_not_is_left_out(tmp_path: Path) -> None:
    view = Preprocessing(size=(120, 80), roi=(10, 10, 110, 70))
    (tmp_path / "latest").mkdir()
    cv2.imwrite(str(tmp_path / "latest/a.jpg"), shot(0))
    folder = keep(tmp_path, "a/d/1-1", shot(1))
    (frame,) = confirmed_frames([alert(1, Label.FALSE_ALARM, evidence=folder)], tmp_path, view)
    assert frame.picture is None
    assert "whether it was cut is not known" in frame.reason
    (frame,) = confirmed_frames([alert(1, Label.FALSE_ALARM, evidence=folder)], tmp_path, Preprocessing(size=(120, 80)))
    assert frame.picture is not None


@pytest.mark.parametrize("label", [Label.TRUE_DEFECT, None])
def test_true_defects_and_what_nobody_labelled_are_never_learned(label: Label | None, tmp_path: Path) -> None:
    folder = keep(tmp_path, "a/d/1-1", shot(1))
    with pytest.raises(ValueError, match="only what is normal may be learned"):
        confirmed_frames([alert(1, label, evidence=folder)], tmp_path, SMALL)
