"""Tiny datasets in the layouts of the published ones: grey plates, good or with a red patch, and masks of the patch."""

import csv
from pathlib import Path

import cv2
import numpy as np

from tests.plates import plate

HOLE = (slice(40, 61), slice(40, 61))
"""Rows and columns of the patch."""


def mask(value: int = 255) -> np.ndarray:
    found = np.zeros((96, 96), np.uint8)
    found[HOLE] = value
    return found


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def mvtec(root: Path, *categories: str, train: int = 6, tests: int = 3) -> Path:
    for offset, category in enumerate(categories):
        folder, first = root / category, 1000 * offset
        for n in range(train):
            save(folder / f"train/good/{n:03}.png", plate(first + n))
        for n in range(tests):
            save(folder / f"test/good/{n:03}.png", plate(first + 100 + n))
            save(folder / f"test/hole/{n:03}.png", plate(first + 200 + n, defect=True))
            save(folder / f"ground_truth/hole/{n:03}_mask.png", mask())
    return root


def btad(root: Path) -> Path:
    for product, picture, truth in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        for n in range(4):
            save(root / f"{product}/train/ok/{n:04}.{picture}", plate(n))
        for n in range(2):
            save(root / f"{product}/test/ok/{n:04}.{picture}", plate(100 + n))
            save(root / f"{product}/test/ko/{n:04}.{picture}", plate(200 + n, defect=True))
            save(root / f"{product}/ground_truth/ko/{n:04}.{truth}", mask())
    return root


def visa(root: Path) -> Path:
    rows = []
    for product in ("candle", "pcb1"):
        for n in range(6):
            image = f"{product}/Data/Images/Normal/{n:04}.JPG"
            save(root / image, plate(n))
            rows.append((product, "train" if n < 4 else "test", "normal", image, ""))
        for n in range(2):
            image, truth = f"{product}/Data/Images/Anomaly/{n:03}.JPG", f"{product}/Data/Masks/Anomaly/{n:03}.png"
            save(root / image, plate(200 + n, defect=True))
            save(root / truth, mask(1 + n))  # the number of the kind of defect
            rows.append((product, "test", "anomaly", image, truth))
    table = root / "split_csv/1cls.csv"
    table.parent.mkdir(parents=True)
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("object", "split", "label", "image", "mask"), *rows])
    return root


def kolektorsdd(root: Path, commutators: int = 6) -> Path:
    for number in range(1, commutators + 1):
        height = 96 + number  # they differ
        for part in range(3):
            defect = part == 1
            picture = cv2.resize(plate(10 * number + part, defect=defect), (96, height))
            save(root / f"kos{number:02}/Part{part}.jpg", picture)
            label = cv2.resize(mask(255 * defect), (96, height), interpolation=cv2.INTER_NEAREST)
            save(root / f"kos{number:02}/Part{part}_label.bmp", label)
    return root


def stc(root: Path, scenes: tuple[str, ...] = ("01", "02", "13"), frames: int = 6) -> Path:
    (root / "training/videos").mkdir(parents=True)
    for scene in scenes:
        for video in (1, 2):
            film(root / f"training/videos/{scene}_{video:03}.avi", [plate(100 * video + n) for n in range(frames)])
        if scene == "13":
            continue
        clip = f"{scene}_0014"
        labels = np.arange(frames) >= frames // 2
        for n, anomalous in enumerate(labels):
            save(root / f"testing/frames/{clip}/{n:03}.jpg", plate(500 + n, defect=bool(anomalous)))
        for kind, array in (("frame", labels), ("pixel", np.stack([mask(int(a)) for a in labels]))):
            path = root / f"testing/test_{kind}_mask/{clip}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, array.astype(np.uint8))
    return root


def film(path: Path, pictures: list[np.ndarray]) -> None:
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 24, (width, height))
    assert writer.isOpened()
    for picture in pictures:
        writer.write(picture)
    writer.release()
