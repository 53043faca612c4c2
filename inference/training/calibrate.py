"""Calibrating a bundle on good images it has not seen, through the very engine that will serve it."""

from pathlib import Path

from inference.calibration import Calibration
from inference.engine import Engine
from inference.errors import DataError
from inference.training.datasets import GoodImages, calibration_images, good_images
from inference.training.images import groups
from inference.training.observing import Observer
from inference.training.report import Report, silent
from ingest.preprocess import Preprocessing
from storage.models import Bundle


def calibrate(
    bundle: Bundle,
    data: str,
    *,
    device: str = "auto",
    batch: int = 8,
    every: int = 1,
    limit: int = 2000,
    fps: float | None = None,
    smoothing: int | None = None,
    report: Report = silent,
) -> Calibration:
    """Score good images and write the result into the bundle.

    Args:
        bundle: the model.
        data: a folder with `calibration/good`, a folder of good images, or a video or other source of good frames.
        device: `auto`, `cpu`, `cuda`, …
        batch: images judged at once.
        every: of a source, use each `every`-th frame.
        limit: of a source, use at most so many frames.
        fps: of a source, its frames a second; None: as the source says.
        smoothing: frames over which maps are averaged before they are scored, of a source alone; None: as many as the
            model was calibrated with, 1 if it was not.
        report: told how far the work is.

    Raises:
        DataError: the images cannot be used, or are those the model was fitted on.
        FitError: the model gives a score that is not finite, or images were to be smoothed.
    """
    engine = Engine(bundle, device=device)
    good = images_to_calibrate_on(data, engine.preprocessing, every=every, limit=limit, fps=fps)
    if smoothing is None:
        smoothing = 1 if engine.calibration is None or not good.video else engine.calibration.smoothing
    if good.fingerprint == bundle.manifest.data_fingerprint:
        raise DataError(f"{data} holds the very images {bundle.ref} was fitted on: calibrate on other good images")
    seen, done = Observer(video=good.video, smoothing=smoothing), 0
    for group in groups(good.train, batch):
        said = engine.judge(group)
        seen.add(group, said.scores, said.maps)
        done += len(group)
        report("calibrating", done, len(good.train))
    calibration = seen.calibration(frame_s=good.frame_s)
    bundle.set_calibration(calibration.model_dump(mode="json"))
    return calibration


def images_to_calibrate_on(
    data: str, preprocessing: Preprocessing, *, every: int = 1, limit: int = 2000, fps: float | None = None
) -> GoodImages:
    """Find good images for calibration as `train`: `calibration/good`, a folder of good images, or a source's frames.

    Raises:
        DataError: they cannot be used.
    """
    root = Path(data)
    if not root.is_dir():
        return good_images(data, preprocessing, every=every, limit=limit, fps=fps)
    images, content = calibration_images(root, preprocessing)
    return GoodImages(train=images, calibration=None, video=False, fingerprint=content)
