"""Calibrating a bundle on good images it has not seen, through the very engine that will serve it."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inference.calibration import Calibration, block_maxima, decorrelation_time
from inference.engine import Engine
from inference.errors import DataError, FitError
from inference.training.datasets import calibration_images, good_images
from inference.training.images import Images, groups
from inference.training.report import Report, silent
from storage.models import Bundle


def calibrate(
    bundle: Bundle,
    data: str,
    *,
    device: str = "auto",
    batch: int = 8,
    every: int = 1,
    limit: int = 2000,
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
        report: told how far the work is.

    Raises:
        DataError: the images cannot be used, or are those the model was fitted on.
        FitError: the model gives a score that is not finite.
    """
    engine = Engine(bundle, device=device)
    root = Path(data)
    if root.is_dir():
        images, content = calibration_images(root, engine.preprocessing)
        video = False
    else:
        good = good_images(data, engine.preprocessing, every=every, limit=limit)
        images, content, video = good.train, good.fingerprint, True
    if content == bundle.manifest.data_fingerprint:
        raise DataError(f"{data} holds the very images {bundle.ref} was fitted on: calibrate on other good images")
    calibration = from_scores(good_scores(engine, images, batch=batch, report=report), video=video)
    bundle.set_calibration(calibration.model_dump(mode="json"))
    return calibration


def good_scores(engine: Engine, images: Images, *, batch: int, report: Report = silent) -> NDArray[np.float32]:
    """Scores `[n]` of images, in their order."""
    scores: list[NDArray[np.float32]] = []
    done = 0
    for group in groups(images, batch):
        scores.append(engine.judge(group).scores)
        done += len(group)
        report("calibrating", done, len(images))
    return np.concatenate(scores)


def from_scores(
    scores: NDArray[np.float32], *, video: bool = False, method: Literal["split", "cross"] = "split"
) -> Calibration:
    """Calibrate on scores `[n]` in order of time.

    Neighbouring frames of a video repeat each other, so a hundred of them are not a hundred witnesses: the highest
    score of each decorrelation time is kept instead, which makes the promise cautious rather than hollow.

    Raises:
        FitError: a score is not finite.
    """
    if not np.isfinite(scores).all():
        raise FitError(
            f"{np.count_nonzero(~np.isfinite(scores))} of {scores.size} good images get a score that is not finite: "
            "the model cannot be calibrated; fit it again with more varied images or stronger regularisation"
        )
    if not video:
        return Calibration.of(scores, method)
    step = decorrelation_time(scores)
    return Calibration.of(block_maxima(scores, step), method, decorrelation=step)
