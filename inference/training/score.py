"""Scoring files by hand: each gets a verdict, whatever is wrong with its neighbours."""

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from inference.engine import Engine
from inference.errors import DataError
from inference.false_alarms import USUAL, FalseAlarms
from inference.training.datasets import pictures_in
from ingest.errors import ImageError
from ingest.pictures import PICTURE_SUFFIXES, read_picture
from ingest.preprocess import RGB, Preprocessing, prepare
from storage.records import Status


class Scored(BaseModel):
    """What became of one file; what could not be found out is null, and then there is a reason."""

    model_config = ConfigDict(frozen=True)

    path: str
    status: Status
    score: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    model: str
    reason: str | None = None


def files(paths: Iterable[Path]) -> list[Path]:
    """The files themselves, and those in folders.

    Raises:
        DataError: a folder holds no images.
    """
    found: list[Path] = []
    for path in paths:
        inside = pictures_in(path) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path} holds no images ({', '.join(sorted(PICTURE_SUFFIXES))})")
        found += inside
    return found


def score(
    engine: Engine, paths: Iterable[Path], *, asked: FalseAlarms = USUAL, fps: float | None = None, batch: int = 8
) -> Iterator[Scored]:
    """Judge files, in their order.

    Args:
        engine: the loaded model.
        paths: image files.
        asked: false alarms that are accepted.
        fps: images judged a second, for what is asked per time.
        batch: images judged at once.
    """
    threshold = None if engine.calibration is None else engine.calibration.limit(asked, fps=fps).threshold
    remaining = iter(paths)
    while group := list(islice(remaining, batch)):
        read = [_read(path, engine.preprocessing) for path in group]
        pictures = [picture for picture in read if not isinstance(picture, str)]
        values = iter(engine.judge(np.stack(pictures)).scores.tolist() if pictures else [])
        for path, picture in zip(group, read, strict=True):
            if isinstance(picture, str):
                yield Scored(path=str(path), status=Status.UNKNOWN, model=engine.ref, reason=picture)
            else:
                yield _verdict(path, next(values), engine, threshold)


def _read(path: Path, preprocessing: Preprocessing) -> RGB | str:
    try:
        return prepare(read_picture(path), preprocessing)
    except ImageError as exc:
        return str(exc)


def _verdict(path: Path, value: float, engine: Engine, threshold: float | None) -> Scored:
    if not math.isfinite(value):
        return Scored(path=str(path), status=Status.UNKNOWN, model=engine.ref, reason="score not finite")
    if engine.calibration is None or threshold is None:
        reason = "the model is not calibrated: run linewatch calibrate"
        return Scored(path=str(path), status=Status.UNKNOWN, score=value, model=engine.ref, reason=reason)
    return Scored(
        path=str(path),
        status=Status.REJECT if value > threshold else Status.PASS,
        score=value,
        p_value=engine.calibration.p_value(value),
        threshold=threshold,
        model=engine.ref,
    )
