"""Updating a bundle: what the next version has learned, what it is calibrated on, and what is refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from inference.calibration import Calibration
from inference.detectors import DETECTORS, detector_class
from inference.engine import load_detector
from inference.errors import DataError, EngineError, FitError
from inference.false_alarms import parse_false_alarms
from inference.training.datasets import good_images
from inference.training.fit import fit_model
from inference.training.images import groups, to_batch
from inference.training.recipe import recipe
from inference.training.update import Updatable, update_model
from ingest.preprocess import Preprocessing
from storage.models import Bundle, Registry

SMALL = Preprocessing(size=(48, 32))
OPTIONS = {"dimensions": 10, "layers": ["layer1", "layer2"]}


def pictures(folder: Path, count: int, *, seed: int, level: int = 100) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        noise = np.random.default_rng([seed, i]).integers(-40, 41, (40, 60, 3))
        cv2.imwrite(str(folder / f"{i:03}.png"), np.clip(level + noise, 0, 255).astype(np.uint8))
    return folder


def fitted(data: Path, out: Path, detector: str = "padim", **options: object) -> Bundle:
    made = recipe(detector, options or OPTIONS, preprocessing=SMALL, weights="random", device="cpu")
    with capture_logs():
        return fit_model(made, str(data), out)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("old")
    pictures(root / "train/good", 30, seed=0)
    pictures(root / "calibration/good", 25, seed=1)
    return root


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("new")
    pictures(root / "train/good", 20, seed=2)
    pictures(root / "calibration/good", 15, seed=3)
    return root


@pytest.fixture
def model(old: Path, tmp_path: Path) -> Bundle:
    return fitted(old, tmp_path / "models/plate")


def scores(bundle: Bundle, folder: Path) -> torch.Tensor:
    images = good_images(str(folder), SMALL).train
    detector = load_detector(bundle)
    return torch.cat([detector(to_batch(group)).scores for group in groups(images, 8)])


def test_the_next_version_judges_as_if_fitted_on_all(model: Bundle, new: Path, tmp_path: Path) -> None:
    updated = update_model(model, str(new), device="cpu")
    both = tmp_path / "both"
    pictures(both / "train/good", 30, seed=0)
    for path in (new / "train/good").iterdir():
        (both / "train/good" / f"new-{path.name}").write_bytes(path.read_bytes())
    pictures(both / "calibration/good", 15, seed=3)
    whole = fitted(both, tmp_path / "models/whole")
    torch.testing.assert_close(scores(updated, new), scores(whole, new), rtol=1e-4, atol=0)
    said, expected = (Calibration.model_validate(bundle.calibration()) for bundle in (updated, whole))
    assert said.method == "split"
    np.testing.assert_allclose(said.scores, expected.scores, rtol=1e-4)


def test_a_candidate_is_written_and_nothing_else_changed(model: Bundle, new: Path) -> None:
    before = {path: path.read_bytes() for path in model.path.rglob("*") if path.is_file()}
    updated = update_model(model, str(new), half_life=100, device="cpu")
    registry = Registry(model.path.parent.parent)
    assert registry.current("plate") == 1
    assert registry.versions("plate") == [1, 2]
    assert all(path.read_bytes() == content for path, content in before.items())
    manifest = updated.manifest
    assert manifest.n_train == 50
    assert manifest.data_fingerprint != model.manifest.data_fingerprint
    assert (manifest.metrics["updated_from"], manifest.metrics["half_life"]) == (1, 100)
    assert len(manifest.reference) == 15
    assert manifest.settings == model.manifest.settings
    size = [(bundle.path / "tensors.safetensors").stat().st_size for bundle in (model, updated)]
    assert size[0] == size[1]
    registry.promote("plate", 2)


def test_updates_follow_one_another(model: Bundle, new: Path, tmp_path: Path) -> None:
    second = update_model(model, str(new), device="cpu")
    more = pictures(tmp_path / "more", 10, seed=9)
    third = update_model(second, str(more), device="cpu")
    assert third.ref == "plate@3"
    assert third.manifest.n_train == 30 + 20 + 8
    assert len(Calibration.model_validate(third.calibration()).scores) == 2
    assert float(load_detector(third).get_buffer("gaussians.count")) == 58


def test_with_a_half_life_the_past_fades(model: Bundle, tmp_path: Path) -> None:
    bright = pictures(tmp_path / "bright", 50, seed=5, level=180)
    kept = update_model(model, str(bright), device="cpu")
    faded = update_model(model, str(bright), half_life=10, device="cpu")
    counts = [float(load_detector(bundle).get_buffer("gaussians.count")) for bundle in (kept, faded)]
    assert counts[0] == 70
    assert counts[1] == pytest.approx(30 * 0.5**4 + (1 - 0.5**4) / (1 - 0.5**0.1))
    assert float(scores(faded, bright).mean()) != pytest.approx(float(scores(kept, bright).mean()), rel=1e-3)


def test_images_it_has_learned_from_are_refused(model: Bundle, old: Path, new: Path) -> None:
    with pytest.raises(DataError, match="holds the very images plate@1 has learned from"):
        update_model(model, str(old), device="cpu")
    updated = update_model(model, str(new), device="cpu")
    for data in (old, new):
        with pytest.raises(DataError, match="holds the very images plate@2 has learned from"):
            update_model(updated, str(data), device="cpu")


def test_models_saved_before_their_count_was_kept_are_updated_by_their_manifest(
    model: Bundle, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = update_model(model, str(new), device="cpu")
    whole = Bundle.tensors

    def without_count(bundle: Bundle) -> dict[str, np.ndarray]:
        return {key: array for key, array in whole(bundle).items() if key != "gaussians.count"}

    with monkeypatch.context() as patch:
        patch.setattr(Bundle, "tensors", without_count)
        updated = update_model(model, str(new), device="cpu")
    assert torch.equal(scores(updated, new), scores(expected, new))


def test_detectors_that_cannot_learn_on_say_so(old: Path, new: Path, tmp_path: Path) -> None:
    model = fitted(old, tmp_path / "models/gallery", "spade", neighbours=3)
    with pytest.raises(EngineError, match="gallery@1 is spade, which cannot learn on: fit it anew"):
        update_model(model, str(new), device="cpu")


def test_what_the_old_model_would_have_rejected_is_counted(model: Bundle, tmp_path: Path) -> None:
    """Strange images among the new ones, whether they are learned from or calibrated on."""
    pictures(tmp_path / "new/train/good", 20, seed=2)
    pictures(tmp_path / "new/calibration/good", 15, seed=3)
    counts = []
    for strange in ([], ["train", "train", "calibration"]):
        for number, part in enumerate(strange):
            spoiled = np.random.default_rng(number).integers(0, 256, (40, 60, 3), np.uint8)
            cv2.imwrite(str(tmp_path / f"new/{part}/good/{number:03}.png"), spoiled)
        updated = update_model(model, str(tmp_path / "new"), device="cpu", asked=parse_false_alarms("1%"))
        assert updated.manifest.metrics["judged_before"] == 35
        counts.append(updated.manifest.metrics["rejected_before"])
    limit = Calibration.model_validate(model.calibration()).threshold(0.01).threshold
    judged = [scores(model, tmp_path / f"new/{part}/good") for part in ("train", "calibration")]
    assert counts[1] == int((torch.cat(judged) > limit).sum())
    assert counts[1] >= counts[0] + 3


def test_without_a_threshold_nothing_is_counted(model: Bundle, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Bundle, "calibration", lambda _: None)
        updated = update_model(model, str(new), device="cpu")
    assert "rejected_before" not in updated.manifest.metrics


def test_too_few_images_are_refused(model: Bundle, tmp_path: Path) -> None:
    with pytest.raises(FitError, match="2 good images are too few"):
        update_model(model, str(pictures(tmp_path / "two", 2, seed=4)), device="cpu")


@pytest.mark.parametrize("name", list(DETECTORS))
def test_only_padim_learns_on(name: str) -> None:
    cls = detector_class(name)
    assert issubclass(cls, Updatable) == (name == "padim")
