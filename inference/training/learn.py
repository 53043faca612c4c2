"""A candidate that has learned from the frames operators said were normal, and what may stand in its way.

The candidate is a new version beside the one it came from; nothing is promoted here. `findings` holds it to what it
must keep before it may be: what was sealed is what was measured, good images pass as promised, those of the model it
came from among them, and what was confirmed as normal scores lower than before.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from inference.detectors.base import Detector
from inference.engine import Engine, save_detector
from inference.errors import DataError
from inference.threshold import Threshold
from inference.training.calibrate import images_to_calibrate_on
from inference.training.confirmed import Frame, pictures
from inference.training.fit import references
from inference.training.images import Images, PreparedImages, groups
from inference.training.observing import Observer
from inference.training.recipe import Recipe
from inference.training.report import Report, silent
from inference.training.update import (
    LEARNED,
    LEARNED_ALERTS,
    LEARNING_SINCE,
    learn_on,
    learned_alerts,
    learning_since,
    open_learner,
)
from ingest.pictures import decode_picture
from ingest.preprocess import RGB
from storage.bundle import REFERENCE
from storage.models import Bundle, Registry

_BATCH = 8
_CONFIDENCE = 0.95
SAME = 1e-4
"""Relative difference of scores up to which they are the same."""

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Learned:
    """A candidate and what was measured on the way.

    Attributes:
        bundle: the candidate, sealed.
        frames: what it learned from.
        before: their scores `[n]` by the model it came from.
        after: their scores `[n]` by the candidate, in memory.
        references: good pictures `[m, h, w, 3]`: those of the model it came from, then its own.
        scores: theirs `[m]` by the candidate, in memory.
    """

    bundle: Bundle
    frames: Sequence[Frame]
    before: Scores
    after: Scores
    references: RGB
    scores: Scores


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a candidate must keep; `said` tells how it did."""

    name: str
    kept: bool
    said: str


def learn(
    bundle: Bundle,
    frames: Sequence[Frame],
    data: str,
    *,
    half_life: float | None = None,
    device: str = "auto",
    batch: int = 8,
    every: int = 1,
    limit: int = 2000,
    fps: float | None = None,
    report: Report = silent,
) -> Learned:
    """Merge confirmed frames into a model, calibrate it anew, and write it as a version that is not promoted.

    Args:
        bundle: the model; it stays as it is.
        frames: of `inference.training.confirmed`, oldest first.
        data: good images to calibrate on, as `inference.training.calibrate` takes them: a few confirmed frames are too
            few, and by what it has learned a model cannot be measured.
        half_life: images after which an image weighs half as much; None: all weigh the same.
        device: `auto`, `cpu`, `cuda`, …
        batch: images taken in at once.
        every: of a source, use each `every`-th frame.
        limit: of a source, use at most so many frames.
        fps: of a source, its frames a second; None: as the source says.
        report: told how far the work is.

    Raises:
        DataError: no frame can be learned from, or the images to calibrate on cannot be used.
        EngineError: the detector cannot learn from more images.
        FitError: nothing can be learned from them.
        storage.errors.StorageError: the bundle cannot be read or written.
    """
    started = time.monotonic()
    bundle.verify()
    manifest = bundle.manifest
    usable = [frame for frame in frames if frame.picture is not None]
    if not usable:
        raise DataError(f"none of {len(frames)} confirmed frames can be learned from: their pictures are gone")
    made, detector = open_learner(bundle, device=device, batch=batch)
    good = images_to_calibrate_on(data, made.preprocessing, every=every, limit=limit, fps=fps)
    before_them = manifest.metrics.get(LEARNED, [manifest.data_fingerprint])
    if good.fingerprint in before_them:
        raise DataError(f"{data} holds the very images {bundle.ref} has learned from: calibrate on others")
    new = pictures(usable)
    before = _scores(made, detector, new, "judging as before", report)
    learn_on(made, detector, new, half_life=half_life, n_train=manifest.n_train, report=report)
    seen = Observer(video=good.video, smoothing=_smoothing(bundle) if good.video else 1)
    made.observe(detector, good.train, seen, "calibrating", report)
    calibration = seen.calibration(frame_s=good.frame_s)
    own = references(good.train)
    known = [*_references(bundle), *map(_decoded, own.values())]
    now = _scores(made, detector, PreparedImages([*new, *known]), "judging as now", report)
    learned = [*before_them, sha256(b"".join(picture.tobytes() for picture in new)).hexdigest()]
    folder = bundle.path.resolve().parent
    candidate = save_detector(
        Registry(folder.parent),
        folder.name,
        detector,
        preprocessing=made.preprocessing,
        calibration=calibration,
        reference=own,
        data_fingerprint=sha256("\n".join(learned).encode()).hexdigest(),
        n_train=manifest.n_train + len(usable),
        metrics={
            "updated_from": manifest.version,
            "half_life": half_life,
            "update_seconds": round(time.monotonic() - started, 3),
            "good_score_median": float(np.median(calibration.scores)),
            "good_score_max": calibration.scores[-1],
            LEARNED: learned,
            LEARNED_ALERTS: list(dict.fromkeys([*learned_alerts(bundle), *(frame.alert for frame in usable)])),
            LEARNING_SINCE: learning_since(bundle),
        },
    )
    return Learned(
        bundle=candidate,
        frames=usable,
        before=before,
        after=now[: len(usable)],
        references=np.stack(known),
        scores=now[len(usable) :],
    )


def findings(learned: Learned, candidate: Engine, limit: Threshold) -> list[Finding]:
    """Hold a candidate to what it must keep.

    Args:
        learned: what was measured in memory.
        candidate: the same model, loaded from disk.
        limit: what the line would hold it to.
    """
    threshold, m = limit.threshold, len(learned.references)
    sealed = np.concatenate([candidate.judge(group).scores for group in groups(learned.references, _BATCH)])
    # The threshold may be the very score of one of these: within rounding of it, either verdict is the same.
    alike = ((sealed > threshold) == (learned.scores > threshold)) | np.isclose(sealed, threshold, rtol=SAME, atol=0)
    same = np.isclose(sealed, learned.scores, rtol=SAME, atol=0) & alike
    rejected = int(np.count_nonzero(~(sealed <= threshold)))
    by_chance = int(binom.ppf(_CONFIDENCE, m, limit.asked))
    passing = learned.after <= threshold
    lower = learned.after < learned.before
    return [
        Finding(
            "parity",
            bool(same.all()),
            f"{np.count_nonzero(same)} of {m} reference images are judged from disk as in memory",
        ),
        Finding(
            "references",
            rejected <= by_chance,
            f"{rejected} of {m} reference images are rejected, up to {by_chance} may be by chance",
        ),
        Finding(
            "confirmed",
            bool((passing | lower).all()),
            f"of {len(passing)} confirmed frames {np.count_nonzero(passing)} now pass, "
            f"{np.count_nonzero(lower)} score lower than before",
        ),
    ]


def _scores(made: Recipe, detector: Detector, images: Images, what: str, report: Report) -> Scores:
    seen = Observer()
    made.observe(detector, images, seen, what, report)
    return seen.scores


def _references(bundle: Bundle) -> Sequence[RGB]:
    return [_decoded((bundle.path / REFERENCE / name).read_bytes()) for name in sorted(bundle.manifest.reference)]


def _decoded(png: bytes) -> RGB:
    return np.asarray(cv2.cvtColor(decode_picture(png, "reference image"), cv2.COLOR_BGR2RGB))


def _smoothing(bundle: Bundle) -> int:
    stored = bundle.calibration()
    return 1 if stored is None else int(stored.get("smoothing", 1))
