import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from inference.calibration import Calibration
from inference.detectors.base import Detection, Detector, Progress, Settings, TrainingImages
from inference.detectors.trained import Samples, TrainedDetector, TrainedSettings, Training
from inference.engine import Engine
from inference.errors import DataError, FitError
from inference.training import recipe as recipes
from inference.training.calibrate import calibrate
from inference.training.datasets import good_images
from inference.training.fit import fit_model
from inference.training.keeping import checkpoint_file, checkpointing, features_folder
from inference.training.observing import from_scores
from inference.training.recipe import Recipe, recipe, usual_size
from ingest.preprocess import Preprocessing
from storage.errors import BundleError, StorageError, StorageFull
from storage.models import Bundle, Registry, open_bundle

SMALL = Preprocessing(size=(16, 16))


class Mean(Detector):
    """The distance to the mean picture: enough of a detector to see what fitting does around it."""

    name = "mean"
    paper = "none"
    settings_class = Settings
    fits: ClassVar[list[int]] = []

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        width, height = settings.image_size
        self.register_buffer("mean", torch.zeros(3, height, width))

    def fit(self, images: TrainingImages, progress: Progress) -> None:
        taken = torch.cat(list(images.stream()))
        if len(taken) < 2:
            raise FitError("too few")
        self.get_buffer("mean").copy_(taken.mean(0))
        self.fits.append(len(taken))
        progress(len(taken), 0)

    def forward(self, images: torch.Tensor) -> Detection:
        maps = (images - self.get_buffer("mean")).abs().mean(1)
        return Detection(maps=maps, scores=maps.mean((1, 2)))


class EpochSettings(TrainedSettings):
    epochs: int = 2
    batch: int = 4
    learning_rate: float = 0.1


class Trained(Mean, TrainedDetector):
    name = "trained"
    settings_class = EpochSettings
    settings: EpochSettings

    def samples(self, images: TrainingImages, training: Training, progress: Progress) -> Samples:
        raise NotImplementedError

    def optimizer(self) -> torch.optim.Optimizer:
        raise NotImplementedError

    def loss(self, batch: tuple[torch.Tensor, ...], generator: torch.Generator) -> torch.Tensor:
        raise NotImplementedError

    def fit(self, images: TrainingImages, progress: Progress, *, training: Training | None = None) -> None:
        assert training is not None
        super().fit(images, progress)


@pytest.fixture
def means(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make the two detectors above known; gives the number of images of each fit."""
    Mean.fits.clear()
    monkeypatch.setattr(recipes, "detector_class", {cls.name: cls for cls in (Mean, Trained)}.__getitem__)
    return Mean.fits


def pictures(folder: Path, count: int, *, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        noise = np.random.default_rng(first + i).integers(80, 120, (20, 20, 3), np.uint8)
        cv2.imwrite(str(folder / f"{i:03}.png"), noise)
    return folder


def made(detector: str = "mean") -> Recipe:
    return recipe(detector, {}, preprocessing=SMALL, device="cpu", batch=4)


def said(logs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a person reads of them."""
    return [entry["event"] for entry in logs if entry["log_level"] != "debug"]


def calibration_of(bundle: Bundle) -> Calibration:
    stored = bundle.calibration()
    assert stored is not None
    return Calibration.model_validate(stored)


def test_images_set_apart_calibrate(tmp_path: Path, means: list[int]) -> None:
    pictures(tmp_path / "d/train/good", 10)
    pictures(tmp_path / "d/calibration/good", 7, first=50)
    bundle = fit_model(made(), str(tmp_path / "d"), tmp_path / "models/m")
    calibration = calibration_of(bundle)
    assert means == [10]
    assert (calibration.method, len(calibration.scores)) == ("split", 7)
    assert len(bundle.manifest.reference) == 7
    assert bundle.manifest.n_train == 10


def test_without_them_each_image_is_scored_by_a_model_that_has_not_seen_it(tmp_path: Path, means: list[int]) -> None:
    folder = pictures(tmp_path / "d", 23)
    bundle = fit_model(made(), str(folder), tmp_path / "models/m")
    calibration = calibration_of(bundle)
    assert means == [23, 18, 18, 18, 19, 19]  # all, then without each fifth
    assert (calibration.method, len(calibration.scores)) == ("cross", 23)
    assert len(bundle.manifest.reference) == 16
    images = list(good_images(str(folder), SMALL).train)
    fold, rest = np.stack(images[:5]), np.stack(images[5:])
    by_hand = np.abs(fold / 255 - rest.mean(0) / 255).mean((1, 2, 3))
    assert all(min(abs(np.asarray(calibration.scores) - s)) < 1e-6 for s in by_hand)


def test_detector_that_trains_for_epochs_holds_a_fifth_out(tmp_path: Path, means: list[int]) -> None:
    bundle = fit_model(made("trained"), str(pictures(tmp_path / "d", 20)), tmp_path / "models/m")
    assert means == [16]
    assert bundle.manifest.n_train == 16
    assert (calibration_of(bundle).method, len(calibration_of(bundle).scores)) == ("split", 4)


def test_video_holds_its_end_out(tmp_path: Path, means: list[int]) -> None:
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for i in range(50):  # dark at first, bright in the last fifth: held-out scores tell which were held out
        writer.write(np.full((48, 64, 3), 100 if i < 40 else 200, np.uint8))
    writer.release()
    bundle = fit_model(made(), str(film), tmp_path / "models/m")
    assert means == [40]
    calibration = calibration_of(bundle)
    assert min(calibration.scores) > 0.3
    assert calibration.frame_s == 0.1
    assert calibration.sequence is not None
    assert len(calibration.sequence) == 10
    assert calibration.method == "split"


def test_neighbouring_frames_count_as_one_witness() -> None:
    rng = np.random.default_rng(0)
    slow = np.repeat(rng.normal(size=40), 25).astype(np.float32)
    calibration = from_scores(slow, video=True)
    assert calibration.decorrelation > 5
    assert len(calibration.scores) < 20
    assert calibration.scores[-1] == slow.max()
    assert from_scores(slow).decorrelation == 1


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(FitError, match="1 of 2 good images"):
        from_scores(np.array([1.0, np.nan], np.float32))


def test_few_images_for_a_training_are_worth_a_warning_before_it(tmp_path: Path, means: list[int]) -> None:
    with capture_logs() as logs:
        fit_model(made("trained"), str(pictures(tmp_path / "d", 24)), tmp_path / "models/m")
    assert {"images": 19, "advised": 20} in [{key: log.get(key) for key in ("images", "advised")} for log in logs]
    with capture_logs() as logs:
        fit_model(made("mean"), str(tmp_path / "d"), tmp_path / "models/m")
        fit_model(made("trained"), str(pictures(tmp_path / "d", 25)), tmp_path / "models/m")
    assert said(logs) == []
    assert means == [19, 24, 19, 19, 19, 19, 20, 20]


def test_a_profile_says_the_size_unless_the_preprocessing_does() -> None:
    assert usual_size("msflow", device="cpu") == (256, 256)
    assert usual_size("msflow", device="cpu", profile="paper") == (768, 768)
    assert recipe("msflow", {}, device="cpu", profile="paper").settings.image_size == (768, 768)
    chosen = recipe("msflow", {"backbone": "resnet50"}, preprocessing=SMALL, device="cpu", profile="paper")
    assert chosen.settings.image_size == (16, 16)
    assert chosen.settings.model_dump()["backbone"] == "resnet50"
    assert chosen.settings.model_dump()["epochs"] == 240


def test_the_checkpoint_is_given_up_said_and_gone_with_the_bundle(
    tmp_path: Path, means: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, data = tmp_path / "models/m", str(pictures(tmp_path / "d", 25))
    checkpoint = checkpoint_file(out, "trained")
    during: list[bytes | None] = []

    def fit(_: Trained, __: TrainingImages, ___: Progress, *, training: Training) -> None:
        assert training.checkpoint == checkpoint
        during.append(checkpoint.read_bytes() if checkpoint.exists() else None)
        checkpoint.write_bytes(b"state")

    monkeypatch.setattr(Trained, "fit", fit)
    monkeypatch.setattr(Registry, "write", _full)
    with pytest.raises(StorageFull):
        fit_model(made("trained"), data, out)
    with pytest.raises(StorageFull), capture_logs() as resumed:
        fit_model(made("trained"), data, out, resume=True)
    with pytest.raises(StorageFull), capture_logs() as anew:
        fit_model(made("trained"), data, out)
    assert checkpoint.exists()
    assert Registry(out.parent).names() == []
    monkeypatch.undo()
    monkeypatch.setattr(recipes, "detector_class", {"trained": Trained}.__getitem__)
    monkeypatch.setattr(Trained, "fit", fit)
    fit_model(made("trained"), data, out, resume=True)
    assert not checkpoint.parent.exists()
    with capture_logs() as nothing:
        fit_model(made("trained"), data, out, resume=True)
    assert during == [None, b"state", None, b"state", None]
    assert said(resumed) == []
    assert said(anew) == ["an interrupted training is given up, --resume would have gone on"]
    assert said(nothing) == ["no interrupted training to go on with: it starts anew"]
    assert means == []


def _full(*_: object, **__: object) -> None:
    raise StorageFull("the disk is full")


def test_a_model_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    checkpoint = checkpoint_file(tmp_path / "models/m", "msflow")
    with checkpointing(checkpoint, resume=False):
        with pytest.raises(FitError, match=r"models/m is being trained by another process") as caught:
            checkpointing(checkpoint, resume=True).__enter__()
        assert "\n" not in str(caught.value)
    with checkpointing(checkpoint, resume=False):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="check the disk"), checkpointing(tmp_path / "file/m/c", resume=False):
        pass


def test_features_have_a_folder_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINEWATCH_CACHE", str(tmp_path / "here"))
    assert features_folder() == tmp_path / "here"
    monkeypatch.delenv("LINEWATCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert features_folder() == tmp_path / "linewatch/features"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert features_folder() == Path.home() / ".cache/linewatch/features"


@pytest.mark.parametrize("detector", ["mean", "trained"])
def test_too_few_images_to_calibrate_are_named(tmp_path: Path, means: list[int], detector: str) -> None:
    with pytest.raises(FitError, match="2 good images are too few"):
        fit_model(made(detector), str(pictures(tmp_path / "d", 2)), tmp_path / "models/m")
    assert all(n == 2 for n in means)


def test_corrupt_image_is_left_out_of_every_fold(tmp_path: Path, means: list[int]) -> None:
    folder = pictures(tmp_path / "d", 21)
    (folder / "010.png").write_bytes(b"nothing")
    fit_model(made(), str(folder), tmp_path / "models/m")
    assert means == [20, 16, 16, 16, 16, 16]


def test_bad_name_is_refused_before_the_work(tmp_path: Path, means: list[int]) -> None:
    with pytest.raises(BundleError, match="no name of a model"):
        fit_model(made(), str(pictures(tmp_path / "d", 5)), tmp_path / "a name")
    assert means == []


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"padim has no setting 'epsilom': it has .*epsilon"):
        recipe("padim", {"epsilom": 1}, preprocessing=SMALL)
    with pytest.raises(ValueError, match="padim's setting epsilon -1"):
        recipe("padim", {"epsilon": -1}, preprocessing=SMALL)
    with pytest.raises(ValueError, match="--seed"):
        recipe("padim", {"seed": 3}, preprocessing=SMALL)


def test_fitting_twice_gives_the_same_model(tmp_path: Path, plate_model: Bundle) -> None:
    data = plate_model.path.parents[2] / "data"
    again = recipe(
        "padim", {"dimensions": 20}, preprocessing=Preprocessing(size=(64, 64)), weights="random", device="cpu"
    )
    second = fit_model(again, str(data), tmp_path / "models/plate")
    first_tensors = plate_model.tensors()
    assert all(np.array_equal(first_tensors[name], array) for name, array in second.tensors().items())
    scene = {"scene": None}  # the fixture's model has none
    assert second.calibration() | scene == plate_model.calibration()
    assert second.manifest.data_fingerprint == plate_model.manifest.data_fingerprint


def test_calibrating_again_through_the_engine_gives_the_scores_of_fitting(tmp_path: Path, plate_model: Bundle) -> None:
    data = plate_model.path.parents[2] / "data"
    copied = Bundle(Path(shutil.copytree(plate_model.path, tmp_path / "plate/1")))
    after = calibrate(copied, str(data), device="cpu", batch=3)
    np.testing.assert_allclose(after.scores, calibration_of(plate_model).scores, rtol=1e-4)
    assert Engine(open_bundle(str(copied.path)), device="cpu").calibration == after
    with pytest.raises(DataError, match="very images"):
        calibrate(copied, str(data / "train/good"), device="cpu")


_PEAK = """
import resource
import sys
from pathlib import Path
import cv2, numpy as np
from inference.training.fit import fit_model
from inference.training.recipe import recipe
from ingest.preprocess import Preprocessing
cv2.setNumThreads(1)
made = recipe("padim", {"dimensions": 20}, preprocessing=Preprocessing(size=(64, 64)), weights="random", device="cpu")
fit_model(made, sys.argv[1], Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    # 300 pictures more would be 130 MB in memory if they were kept, decoded, beside a few hundred MB of torch.
    for count in (20, 320):
        for i in range(count):
            (tmp_path / f"{count}/train/good").mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(i).integers(0, 255, (380, 380, 3), np.uint8)
            cv2.imwrite(str(tmp_path / f"{count}/train/good/{i:03}.bmp"), noise)
        pictures(tmp_path / f"{count}/calibration/good", 5)
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-c", _PEAK, str(tmp_path / str(count)), str(tmp_path / f"models/m{count}")],
                check=True,
                capture_output=True,
                text=True,
                cwd=Path(__file__).parents[2],
                timeout=150,
                # How threads share memory varies the peak by 5 % from run to run.
                env=os.environ | {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"},
            ).stdout.split()[-1]
        )
        for count in (20, 320)
    ]
    assert peaks[1] <= 1.05 * peaks[0], peaks
