"""The engine: nothing but finite answers for the right number of pictures, or a clear refusal."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from structlog.testing import capture_logs
from torch import Tensor

from inference import detectors
from inference.calibration import Calibration
from inference.detectors.base import Detection, Detector, Progress, Settings, TrainingImages
from inference.detectors.padim import Padim, PadimSettings
from inference.engine import Engine, choose_device, load_detector, save_detector
from inference.errors import EngineError
from inference.weights import load_backbone_weights
from ingest.preprocess import Preprocessing
from storage.models import Bundle, Registry
from tests.inference.tensors import Tensors

SIZE = (48, 32)  # width, height


class Brightness(Detector):
    """Scores an image by its mean; misbehaves as told by class attributes."""

    name: ClassVar[str] = "brightness"
    paper: ClassVar[str] = "none"
    most: ClassVar[int] = 1000
    answers: ClassVar[int | None] = None
    batches: ClassVar[list[int]] = []
    threads: ClassVar[list[int]] = []

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("scale", torch.ones(1))

    def fit(self, images: TrainingImages, progress: Progress) -> None:
        """Nothing to learn."""

    def forward(self, images: Tensor) -> Detection:
        self.batches.append(len(images))
        self.threads.append(torch.get_num_threads())
        if len(images) > self.most:
            raise torch.OutOfMemoryError("too much")
        maps = images.mean(1) * self.scale
        maps = torch.where(maps == 1, torch.inf, maps)  # a white pixel is beyond it
        return Detection(maps=maps[: self.answers], scores=maps.mean((1, 2))[: self.answers])


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setitem(detectors.DETECTORS, "brightness", "unused:Brightness")
    monkeypatch.setattr("inference.engine.detector_class", lambda _name: Brightness)
    monkeypatch.setattr(Brightness, "batches", [])
    monkeypatch.setattr(Brightness, "threads", [])
    return save_detector(
        Registry(tmp_path / "models"),
        "bright",
        Brightness(Settings(image_size=SIZE)),
        preprocessing=Preprocessing(size=SIZE, resample="linear", roi=(1, 2, 30, 40)),
        calibration=Calibration.model_validate({"method": "split", "scores": (0.1, 0.2, 0.3)}),
        reference={"0.png": b"picture"},
        data_fingerprint="f00d",
        n_train=3,
        metrics={"image_auroc": 0.5},
    )


def pictures(count: int) -> NDArray[np.uint8]:
    width, height = SIZE
    return np.random.default_rng(0).integers(0, 200, (count, height, width, 3), np.uint8)


def test_the_manifest_says_what_was_saved(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert (manifest.detector, manifest.data_fingerprint, manifest.n_train) == ("brightness", "f00d", 3)
    assert (manifest.backbone, manifest.backbone_sha256) == (None, None)
    assert manifest.metrics == {"image_auroc": 0.5}
    engine = Engine(bundle, device="cpu")
    assert engine.ref == "bright@1"
    assert engine.preprocessing == Preprocessing(size=SIZE, resample="linear", roi=(1, 2, 30, 40))
    assert engine.calibration is not None
    assert engine.calibration.scores == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_each_picture_gets_its_score_in_order(bundle: Bundle, count: int) -> None:
    batch = pictures(count)
    judgement = Engine(bundle, device="cpu").judge(batch)
    assert len(judgement) == count
    assert judgement.maps.shape == (count, SIZE[1], SIZE[0])
    assert judgement.scores.dtype == judgement.maps.dtype == np.float32
    np.testing.assert_allclose(judgement.scores, batch.mean((1, 2, 3)) / 255, rtol=1e-5)
    np.testing.assert_allclose(judgement.maps, batch.mean(3) / 255, rtol=1e-5, atol=1e-6)


def test_read_only_and_strided_pictures_are_judged_alike(bundle: Bundle) -> None:
    engine = Engine(bundle, device="cpu")
    batch = pictures(4)
    locked = batch.copy()
    locked.flags.writeable = False
    np.testing.assert_array_equal(engine.judge(locked).scores, engine.judge(batch).scores)
    np.testing.assert_array_equal(engine.judge(batch[::-1]).scores, engine.judge(batch).scores[::-1])


def test_what_is_not_finite_is_nan_for_that_picture_alone(bundle: Bundle) -> None:
    batch = pictures(3)
    batch[1, 4, 4] = 255
    scores = Engine(bundle, device="cpu").judge(batch).scores
    assert np.isnan(scores).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("batch", "got"),
    [
        (np.zeros((1, 48, 32, 3), np.uint8), r"uint8 \[1, 48, 32, 3\]"),
        (np.zeros((32, 48, 3), np.uint8), r"uint8 \[32, 48, 3\]"),
        (np.zeros((1, 32, 48, 1), np.uint8), r"uint8 \[1, 32, 48, 1\]"),
        (np.zeros((1, 32, 48, 3), np.float32), r"float32 \[1, 32, 48, 3\]"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(bundle: Bundle, batch: NDArray[np.uint8], got: str) -> None:
    with pytest.raises(EngineError, match=rf"bright@1 judges uint8 pictures \[B, 32, 48, 3\], got {got}"):
        Engine(bundle, device="cpu").judge(batch)


def test_an_answer_for_another_number_of_pictures_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Brightness, "answers", 2)
    with pytest.raises(EngineError, match="given 3 pictures and answered with 2 scores and 2 maps"):
        Engine(bundle, device="cpu").judge(pictures(3))


def test_out_of_memory_halves_the_batch_and_says_so(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, batch = Engine(bundle, device="cpu"), pictures(7)
    expected = engine.judge(batch)
    monkeypatch.setattr(Brightness, "most", 4)
    Brightness.batches.clear()
    with capture_logs() as logs:
        judgement = engine.judge(batch)
    assert Brightness.batches == [7, 4, 3]
    assert [(entry["log_level"], entry["batch"]) for entry in logs] == [("warning", 7)]
    np.testing.assert_array_equal(judgement.scores, expected.scores)
    np.testing.assert_array_equal(judgement.maps, expected.maps)


@pytest.mark.parametrize(("most", "says"), [(2, "for 4 pictures .*: lower max_batch"), (0, "too little memory for")])
def test_out_of_memory_twice_is_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, most: int, says: str) -> None:
    engine = Engine(bundle, device="cpu")
    monkeypatch.setattr(Brightness, "most", most)
    with capture_logs(), pytest.raises(EngineError, match=says):
        engine.judge(pictures(7 if most else 1))


def test_warming_up_judges_batches_of_each_size_as_long_as_there_is_time(bundle: Bundle) -> None:
    Engine(bundle, device="cpu").warm_up(5, seconds=60)
    assert Brightness.batches == [5, 4, 3, 2, 1]
    Engine(bundle, device="cpu").warm_up(3, seconds=0)
    assert Brightness.batches == [5, 4, 3, 2, 1, 3]


def test_threads_hold_for_the_judging_thread(bundle: Bundle) -> None:
    before = torch.get_num_threads()
    try:
        Engine(bundle, device="cpu", threads=1).judge(pictures(1))
    finally:
        torch.set_num_threads(before)
    assert Brightness.threads == [1]


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "tpu:0", ""])
def test_unknown_devices_are_told_what_there_is(name: str) -> None:
    with pytest.raises(EngineError, match="here: choose auto or one of cpu"):
        choose_device(name)


def test_auto_takes_what_there_is() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu").type == "cpu"


def test_a_bundle_of_another_shape_is_refused(bundle: Bundle) -> None:
    path = bundle.path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["settings"]["sigma"] = 3
    path.write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match=r"bright@1 does not fit this version of brightness: .*sigma"):
        load_detector(Bundle(bundle.path))


def test_a_detector_that_was_not_fitted_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"padim has no finite .*: fit it before saving"):
        save_detector(
            Registry(tmp_path),
            "model",
            Padim(PadimSettings(image_size=SIZE, dimensions=4)),
            preprocessing=Preprocessing(size=SIZE),
            data_fingerprint="none",
            n_train=0,
        )


@pytest.fixture
def padim(tmp_path: Path) -> tuple[Padim, Bundle]:
    """A small fitted PaDiM and what was saved of it."""
    images = torch.from_numpy(pictures(20)).permute(0, 3, 1, 2).float() / 255
    detector = Padim(PadimSettings(image_size=SIZE, dimensions=12))
    with capture_logs():
        load_backbone_weights(detector.backbone, "random")
    detector.fit(Tensors(images, 8), lambda _done, _total, _note="": None)
    bundle = save_detector(
        Registry(tmp_path / "models"),
        "model",
        detector,
        preprocessing=Preprocessing(size=SIZE),
        data_fingerprint="none",
        n_train=20,
    )
    return detector, bundle


def test_an_engine_judges_as_the_detector_it_was_saved_from(padim: tuple[Padim, Bundle]) -> None:
    detector, bundle = padim
    assert (bundle.manifest.backbone, bundle.manifest.backbone_sha256) == ("resnet18", detector.backbone.sha256)
    batch = pictures(3)
    images = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255  # channels last in memory, as the engine's are
    with torch.inference_mode():
        expected = detector(images)
    judgement = Engine(bundle, device="cpu").judge(batch)
    np.testing.assert_array_equal(judgement.scores, expected.scores.numpy())
    np.testing.assert_array_equal(judgement.maps, expected.maps.numpy())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_judges_as_the_cpu_does(padim: tuple[Padim, Bundle]) -> None:
    one, other = (Engine(padim[1], device=device).judge(pictures(3)) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(other.scores, one.scores, rtol=1e-3)
    np.testing.assert_allclose(other.maps, one.maps, rtol=1e-3, atol=1e-3)
