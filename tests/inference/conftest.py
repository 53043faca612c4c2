"""A tiny fitted model, made once: PaDiM with random weights on 64x64 pictures of a grey plate."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.training.fit import fit_model, recipe
from ingest.preprocess import Preprocessing
from storage.models import Bundle


def plate(number: int, *, defect: bool = False) -> np.ndarray:
    draw = np.random.default_rng(number)
    picture = np.full((96, 96, 3), 120, np.uint8)
    cv2.circle(picture, (48, 48), 30, (200, 200, 200), -1)
    if defect:
        cv2.rectangle(picture, (40, 40), (60, 60), (0, 0, 255), -1)
    return cv2.add(picture, draw.integers(0, 6, picture.shape, np.uint8))


def write_plates(folder: Path, count: int, *, defects: tuple[int, ...] = (), first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:04}.png"), plate(first + number, defect=number in defects))
    return folder


@pytest.fixture(scope="session")
def plate_model(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("plates")
    write_plates(folder / "data" / "train" / "good", 20)
    write_plates(folder / "data" / "calibration" / "good", 40, first=100)
    made = recipe(
        "padim", {"dimensions": 20}, preprocessing=Preprocessing(size=(64, 64)), weights="random", device="cpu"
    )
    return fit_model(made, str(folder / "data"), folder / "models" / "plate")
