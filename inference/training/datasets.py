"""Which images are good, which are defective, and where the defects lie: from folders, videos and cameras.

::

    DIR/train/good  calibration/good  test/good  test/<kind>  ground_truth/<kind>/<name>_mask.png    MVTec AD's layout
    DIR/*.png                                                                                        good images
    file.mp4, rtsp://…, synthetic:…                                                                  good frames
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.errors import DataError
from inference.training.images import FolderImages, Images, SpooledImages, Unreadable
from ingest.errors import ImageError, SourceError
from ingest.frame import Picture
from ingest.pictures import PICTURE_SUFFIXES, read_picture
from ingest.preprocess import RGB, Preprocessing, prepare
from ingest.sources import open_source
from ingest.sources.base import Source

Mask = NDArray[np.bool_]
_MASK_SUFFIX = "_mask"


@dataclass(frozen=True, slots=True)
class GoodImages:
    """What a model is fitted on and calibrated with.

    Attributes:
        train: images to fit on.
        calibration: good images set apart for calibration, or None.
        video: neighbours in `train` are neighbours in time, hence near-duplicates.
        fingerprint: sha256 over the names and contents of `train`.
        frame_s: of a video, seconds from one image to the next; None where its rate is not known.
    """

    train: Images
    calibration: Images | None
    video: bool
    fingerprint: str
    frame_s: float | None = None


@dataclass(frozen=True, slots=True)
class TestImage:
    """One image of a test set; `kind` is the folder's name, `good` or a kind of defect."""

    path: Path
    kind: str
    mask: Path | None

    @property
    def good(self) -> bool:
        """Whether it shows a good part."""
        return self.kind == "good"


def good_images(
    data: str, preprocessing: Preprocessing, *, every: int = 1, limit: int = 2000, fps: float | None = None
) -> GoodImages:
    """Find the good images of a folder (MVTec AD's layout, or flat), a video, or any other source.

    Args:
        data: path or source URL.
        preprocessing: applied to each.
        every: of a source, keep each `every`-th frame.
        limit: of a source, keep at most so many.
        fps: of a source, its frames a second; None: as the source says.

    Raises:
        DataError: there are fewer than two, too many cannot be read, or the source cannot be opened.
        ingest.errors.SourceError: the source broke off.
    """
    root = Path(data)
    if not root.is_dir():
        return _good_frames(data, preprocessing, every=every, limit=limit, fps=fps)
    train = root / "train" / "good"
    if not train.is_dir():
        if (root / "train").is_dir() or (root / "test").is_dir():
            raise DataError(f"{root} has no train/good: put the good images there, or name a folder of good images")
        train = root
    paths = at_least_two(pictures_in(train), train)
    calibration = root / "calibration" / "good"
    return GoodImages(
        train=FolderImages(paths, preprocessing, Unreadable(str(train), len(paths))),
        calibration=calibration_images(root, preprocessing)[0] if calibration.is_dir() else None,
        video=False,
        fingerprint=fingerprint(paths),
    )


def calibration_images(root: Path, preprocessing: Preprocessing) -> tuple[Images, str]:
    """Find good images for calibration, `calibration/good` when it exists, else the folder itself; and fingerprint.

    Raises:
        DataError: there are fewer than two.
    """
    folder = root / "calibration" / "good"
    if not folder.is_dir():
        if (root / "train").is_dir() or (root / "test").is_dir():
            raise DataError(
                f"{root} has no calibration/good: put good images there that are in neither train nor test, "
                "or name a folder of them"
            )
        folder = root
    paths = at_least_two(pictures_in(folder), folder)
    return FolderImages(paths, preprocessing, Unreadable(str(folder), len(paths))), fingerprint(paths)


def pictures_in(folder: Path) -> list[Path]:
    """Image files of a folder in order of their names; hidden ones are no images.

    Raises:
        DataError: there is no such folder.
    """
    try:
        files = sorted(folder.iterdir())
    except OSError as exc:
        raise DataError(f"{folder} cannot be listed: {exc.strerror}") from exc
    return [f for f in files if f.suffix.lower() in PICTURE_SUFFIXES and not f.name.startswith(".") and f.is_file()]


def fingerprint(paths: Sequence[Path]) -> str:
    """Sha256 over names and contents in order of names: the same images give the same, wherever they lie.

    Raises:
        DataError: a file cannot be read.
    """
    whole = sha256()
    for path in sorted(paths, key=lambda p: p.name):
        try:
            content = sha256(path.read_bytes()).hexdigest()
        except OSError as exc:
            raise DataError(f"{path} cannot be read: {exc.strerror}") from exc
        whole.update(f"{path.name}\0{content}\n".encode())
    return whole.hexdigest()


def paired_test_images(root: Path) -> tuple[list[TestImage], bool]:
    """Pair the test images of a folder in MVTec AD's layout with their masks, by name.

    Returns:
        The images, `good` first, then the kinds of defects by name; and whether there are masks: either every
        defective image has one or none has.

    Raises:
        DataError: no good or no defective images, a mask without an image or an image without its mask.
    """
    test, truth = root / "test", root / "ground_truth"
    if not test.is_dir():
        raise DataError(f"{root} has no test folder: evaluation needs test/good and test/<kind of defect>")
    kinds = sorted(f.name for f in test.iterdir() if f.is_dir() and not f.name.startswith(".") and f.name != "good")
    pictures = {kind: pictures_in(test / kind) for kind in kinds}
    good = pictures_in(test / "good") if (test / "good").is_dir() else []
    if not good:
        raise DataError(f"{test} has no good images: false alarms cannot be counted without test/good")
    if not any(pictures.values()):
        raise DataError(f"{test} has no defective images: put them in test/<kind of defect>")
    has_masks = truth.is_dir()
    if has_masks:
        _refuse_stray_masks(truth, pictures)
    defective = [
        TestImage(path, kind, _mask_of(path, truth / kind) if has_masks else None)
        for kind in kinds
        for path in pictures[kind]
    ]
    return [TestImage(path, "good", None) for path in good] + defective, has_masks


class TestSet:
    """Test images with their masks.

    Attributes:
        images: `good` first, then the kinds of defects by name.
        has_masks: whether there are masks; either every defective image has one or none has.
    """

    __test__ = False  # not a test of pytest's

    def __init__(self, root: Path, preprocessing: Preprocessing) -> None:
        """Pair images with masks by name.

        Raises:
            DataError: no good or no defective images, a mask without an image or an image without its mask.
        """
        self._preprocessing = preprocessing
        self.images, self.has_masks = paired_test_images(root)

    def __iter__(self) -> Iterator[tuple[TestImage, RGB, Mask]]:
        """Read image after image: what it is, `[h, w, 3]` uint8 RGB and its mask `[h, w]`.

        Masks are cut like the image and resized to the model's input by nearest neighbour, so that metrics compare at
        the resolution the model judges at. A good image's mask is empty; so is every mask when `has_masks` is false.

        Raises:
            DataError: an image or a mask cannot be read (a test set with holes measures something else), the sizes of
                an image and its mask differ, or a mask marks nothing.
        """
        width, height = self._preprocessing.size
        for image in self.images:
            mask = np.zeros((height, width), bool)
            try:
                picture = read_picture(image.path)
                if image.mask is not None:
                    mask = _cut(read_mask(image.mask, picture), self._preprocessing)
                yield image, prepare(picture, self._preprocessing), mask
            except ImageError as exc:
                raise DataError(f"test image {image.path} cannot be used: {exc}") from exc


def frame_rate(data: str) -> float | None:
    """Frames a second of a video or another source of frames, as far as it knows; None for a folder of images.

    Raises:
        DataError: it is no source, or cannot be opened.
    """
    if Path(data).is_dir():
        return None
    with closing(_opened(data)) as source:
        return source.fps


def _opened(data: str) -> Source:
    path = Path(data)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        raise DataError(f"{data} is one image: name a folder of at least two good images, better fifty")
    try:
        # A video file is read as fast as it decodes, not at the pace it was filmed at.
        return open_source(f"{data}?rate=max" if path.is_file() else data)
    except SourceError as exc:
        raise DataError(f"no good images: {exc}") from exc


def _good_frames(data: str, preprocessing: Preprocessing, *, every: int, limit: int, fps: float | None) -> GoodImages:
    with closing(_opened(data)) as source:
        rate = fps or source.fps
        images, content = SpooledImages.spool(source, data, preprocessing, every=every, limit=limit)
    if len(images) < 2:
        raise DataError(f"{data} gave {len(images)} good images: a model needs at least two, better fifty")
    frame_s = None if rate is None else every / rate
    return GoodImages(train=images, calibration=None, video=True, fingerprint=content, frame_s=frame_s)


def at_least_two(paths: list[Path], folder: Path) -> list[Path]:
    """Give the paths back if a model can be fitted on them.

    Raises:
        DataError: there are fewer than two.
    """
    if not paths:
        raise DataError(f"{folder} has no good images ({', '.join(sorted(PICTURE_SUFFIXES))})")
    if len(paths) == 1:
        raise DataError(f"{folder} has one good image, {paths[0].name}: a model needs at least two, better fifty")
    return paths


def _mask_of(image: Path, folder: Path) -> Path:
    mask = folder / f"{image.stem}{_MASK_SUFFIX}.png"
    if not mask.is_file():
        raise DataError(f"test image {image} has no mask: expected {mask} (or no ground_truth folder at all)")
    return mask


def _refuse_stray_masks(truth: Path, pictures: dict[str, list[Path]]) -> None:
    for folder in sorted(f for f in truth.iterdir() if f.is_dir() and f.name != "good"):
        stems = {path.stem for path in pictures.get(folder.name, [])}
        for mask in pictures_in(folder):
            if mask.stem.removesuffix(_MASK_SUFFIX) not in stems:
                raise DataError(f"mask {mask} has no image in {truth.parent / 'test' / folder.name}: remove it")


def read_mask(path: Path, picture: Picture, *, above: int = 127) -> Mask:
    """Read a mask `[H, W]` of a picture `[H, W, 3]`: defective where any channel exceeds `above`.

    Raises:
        DataError: the sizes differ, or nothing is marked.
        ingest.errors.ImageError: the mask cannot be read.
    """
    mask = read_picture(path)
    if mask.shape != picture.shape:
        (height, width), (mask_height, mask_width) = picture.shape[:2], mask.shape[:2]
        raise DataError(f"mask {path} is {mask_width}x{mask_height}, its image {width}x{height}: they must be equal")
    defect = np.asarray(mask.max(axis=2) > above)
    if not defect.any():
        marked = "white (255)" if above else "above 0"
        raise DataError(f"mask {path} marks nothing: defects are {marked}, the highest value here is {mask.max()}")
    return defect


def _cut(defect: Mask, preprocessing: Preprocessing) -> Mask:
    """Cut and resize a mask as `prepare` does its picture, by nearest neighbour."""
    if preprocessing.mask is not None:
        inside = np.zeros(defect.shape, np.uint8)
        cv2.fillPoly(inside, [np.asarray(preprocessing.mask, np.int32)], 1)
        defect = defect & (inside == 1)
    if preprocessing.roi is not None:
        x0, y0, x1, y1 = preprocessing.roi
        defect = defect[y0:y1, x0:x1]
    resized = cv2.resize(defect.astype(np.uint8), preprocessing.size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(resized, bool)
