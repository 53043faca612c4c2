"""What happens to a camera, and whether it is told from a defect.

Fits PaDiM and learns the scene on the first four fifths of the quiet beginning of each video, then changes the last
fifth: bumps, light, blur, covers, each in many strengths. A frame that is called fit (OK) and scores above every good
frame would be a false alarm about a defect, so those count. Then both videos as they are, and the sets of images, in
which nothing is wrong with the camera: `python benchmarks/conditions.py`. Prints Markdown.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import structlog

from inference.engine import Engine
from inference.scene import SceneBuilder, SceneWatch
from inference.training.datasets import pictures_in
from inference.training.fit import fit_model
from inference.training.recipe import recipe
from ingest.frame import Condition, Picture
from ingest.pictures import read_picture
from ingest.preprocess import Preprocessing, prepare
from ingest.sources import open_source

SETS = ("magnetic_tile", "kolektorsdd", "battery_weld", "dobot_cubes")
QUIET = {"bottle-detection.mp4": 171, "one-by-one-person-detection.mp4": 56}
"""Frames of each video before anything happens."""
PREPROCESSING = Preprocessing(size=(256, 256))
FRAMES = 3
"""Changed in each strength."""

Change = Callable[[Picture, float], Picture]


def warp(picture: Picture, *, x: float = 0, y: float = 0, degrees: float = 0, zoom: float = 1) -> Picture:
    """Knock the camera: pixels of the full picture, degrees, and a factor."""
    height, width = picture.shape[:2]
    motion = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, zoom)
    motion[:, 2] += np.array((x, y))
    return np.asarray(cv2.warpAffine(picture, motion, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)


def lit(picture: Picture, light: np.ndarray | float, *, gamma: float = 1, offset: float = 0) -> Picture:
    """Change the light: a factor (or one for each row), a gamma, grey levels."""
    changed = 255 * (picture / np.float32(255)) ** np.float32(gamma) * light + offset
    return np.asarray(np.clip(changed, 0, 255), np.uint8)


def bands(picture: Picture, strength: float) -> Picture:
    """Flicker of lamps, as a rolling shutter sees it: three periods over the picture's height."""
    rows = np.linspace(0, 6 * np.pi, picture.shape[0], dtype=np.float32)
    return lit(picture, (1 + strength * np.sin(rows))[:, None, None])


def covered(picture: Picture, share: float, level: int) -> Picture:
    """Put something even before the left of the lens."""
    picture = picture.copy()
    picture[:, : round(share * picture.shape[1])] = level
    return picture


CHANGES: dict[str, tuple[Change, Sequence[float]]] = {
    "bump to the right, pixels": (
        lambda p, s: warp(p, x=s),
        (0, 0.5, 0.75, 1, 2, 4, 8, 12, 20, 40, 160),
    ),
    "bump downwards, pixels": (lambda p, s: warp(p, y=s), (0.25, 0.5, 1, 2, 4, 8, 20, 80)),
    "turn, degrees": (lambda p, s: warp(p, degrees=s), (0.05, 0.1, 0.15, 0.25, 0.5, 1, 2, 5, 10)),
    "zoom, factor": (lambda p, s: warp(p, zoom=s), (1.002, 1.005, 1.01, 1.03, 1.1)),
    "gain, factor": (lit, (0.4, 0.6, 0.8, 0.85, 0.9, 1.1, 1.13, 1.16, 1.3, 2, 2.5)),
    "gamma": (lambda p, s: lit(p, 1, gamma=s), (0.5, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.5)),
    "offset, grey levels": (lambda p, s: lit(p, 1, offset=s), (-40, -20, -15, -10, 10, 15, 20, 40)),
    "flicker, bands": (bands, (0.02, 0.05, 0.1, 0.2)),
    "blur, sigma in pixels": (
        lambda p, s: np.asarray(cv2.GaussianBlur(p, (0, 0), s), np.uint8),
        (0.5, 0.7, 0.8, 1, 2, 5, 12),
    ),
    "dark cover, share": (lambda p, s: covered(p, s, 40), (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1)),
    "grey cover, share": (lambda p, s: covered(p, s, 130), (0.1, 0.3, 0.4, 0.5, 0.7, 1)),
}


@dataclass(frozen=True)
class Camera:
    """One video's model, scene and quiet frames that neither has seen.

    Attributes:
        engine: the model.
        watch: the scene.
        fresh: full pictures, BGR.
        highest: score of the most anomalous of them.
    """

    engine: Engine
    watch: SceneWatch
    fresh: list[Picture]
    highest: float

    @classmethod
    def of(cls, video: Path, folder: Path, weights: str) -> "Camera":
        """Learn from the quiet beginning; `fit_model` holds out its last fifth, too."""
        quiet = [p for p, _ in zip(frames(video), range(QUIET[video.name]), strict=False)]
        split = round(0.8 * len(quiet))
        made = recipe("padim", {}, preprocessing=PREPROCESSING, weights=weights)
        bundle = fit_model(made, f"{video}?rate=max", folder / video.stem, limit=len(quiet))
        scene = SceneBuilder().add(prepared(quiet[:split])).scene()
        if scene is None:
            raise SystemExit(f"{video}: no fixed scene was found in its first {split} frames")
        print(f"{video.name}: {scene.model_dump(include=LIMITS)}", file=sys.stderr)
        engine = Engine(bundle)
        return cls(engine, SceneWatch(scene), quiet[split:], float(engine.judge(prepared(quiet[split:])).scores.max()))

    def verdicts(self, change: Change, strength: float) -> tuple[Counter[Condition], int, int]:
        """Conditions of changed frames, how many the detector rejects, and how many of these are called OK."""
        every = max(1, len(self.fresh) // FRAMES)
        batch = prepared([change(picture, strength) for picture in self.fresh[::every][:FRAMES]])
        found = [self.watch.look(picture) for picture in batch]
        rejected = self.engine.judge(batch).scores > self.highest
        wrong = sum(condition is Condition.OK for condition, above in zip(found, rejected, strict=True) if above)
        return Counter(found), int(rejected.sum()), wrong


LIMITS = {"moved_above", "light", "blurred_below", "occluded_above"}


def frames(video: Path) -> Iterator[Picture]:
    """Every picture of a video."""
    source = open_source(f"{video}?rate=max")
    while (grab := source.grab()) is not None:
        if grab.picture is not None:
            yield grab.picture
    source.close()


def prepared(pictures: Iterable[Picture]) -> np.ndarray:
    """As the model and the scene see them, `[B, h, w, 3]`."""
    return np.stack([prepare(picture, PREPROCESSING) for picture in pictures])


def say(counts: Counter[Condition]) -> str:
    """Counts of conditions, for a cell of a table."""
    return ", ".join(f"{condition} {count}" for condition, count in counts.most_common())


def sweep(cameras: dict[str, Camera]) -> None:
    """Print what each change is called, and how often it would have been taken for a defect."""
    print("| change | strength | " + " | ".join(f"{name} | rejected | OK and rejected" for name in cameras) + " |")
    print("|---|---|" + "---|---|---|" * len(cameras))
    total = dict.fromkeys(cameras, 0)
    for what, (change, strengths) in CHANGES.items():
        for strength in strengths:
            row = []
            for name, camera in cameras.items():
                counts, rejected, wrong = camera.verdicts(change, strength)
                total[name] += wrong
                row += [say(counts), str(rejected), f"**{wrong}**" if wrong else "0"]
            print(f"| {what} | {strength:g} | " + " | ".join(row) + " |", flush=True)
    print("\nOK and rejected in all: " + ", ".join(f"{name} {wrong}" for name, wrong in total.items()))


def unchanged(root: Path, cameras: dict[str, Camera]) -> None:
    """Print what is said where nothing is wrong with the camera."""
    print("\n| as it is | pictures | conditions | milliseconds of one core |")
    print("|---|---|---|---|")
    for name, camera in cameras.items():
        pictures = prepared(frames(root / "video" / name))
        began = time.process_time()
        counts = Counter(camera.watch.look(picture) for picture in pictures)
        spent = 1e3 * (time.process_time() - began) / len(pictures)
        print(f"| {name} | {len(pictures)} | {say(counts)} | {spent:.2f} |", flush=True)
    for name in SETS:
        good = next(root / name / part / "good" for part in ("calibration", "train") if (root / name / part).is_dir())
        scene = SceneBuilder().add(read(good)).scene()
        test = read(root / name / "test" / "good")
        said = "no fixed scene: no checks" if scene is None else say(Counter(map(SceneWatch(scene).look, test)))
        print(f"| {name}, test/good | {len(test)} | {said} | |", flush=True)


def read(folder: Path) -> np.ndarray:
    """A folder's pictures, prepared."""
    return prepared(read_picture(path) for path in pictures_in(folder))


def main() -> int:
    """Measure what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", default="../shared/weights/resnet18-imagenet-layer1to3.safetensors")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        cameras = {n: Camera.of(options.root / "video" / n, Path(folder), options.weights) for n in QUIET}
        sweep(cameras)
        unchanged(options.root, cameras)
    return 0


if __name__ == "__main__":
    sys.exit(main())
