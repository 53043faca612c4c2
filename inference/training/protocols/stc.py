"""STC, ShanghaiTech Campus: 13 scenes under fixed cameras; people walk by, and now and then ride, run or fight.

Luo, Liu, Gao: A revisit of sparse coding based anomaly detection in stacked RNN framework, ICCV 2017; as PaDiM (arXiv
2011.08785, section IV-A) uses it: one model per scene, from all frames of its training videos. Files are named
`<scene>_<clip>`. Scene 13 has training videos only. Pixel masks of a clip lie in one array, `[frames, H, W]`, which is
read frame by frame: the 42,883 test frames never are in memory together.

PaDiM does not say whether its figure is a mean over scenes or of all pixels together: both are stated.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.errors import DataError
from inference.training.datasets import Mask, pictures_in
from inference.training.images import Images, SpooledImages, Unreadable
from inference.training.protocols.base import PaperProtocol, Split, both_kinds
from inference.training.protocols.geometry import Geometry, Size
from inference.training.protocols.mvtec import CROPPED
from inference.training.protocols.pictures import Sizes, TestPicture, content
from inference.training.report import Report
from ingest.errors import SourceError
from ingest.frame import Picture
from ingest.preprocess import RGB
from ingest.sources.video import VideoSource

WITHOUT_TRUTH = frozenset({"13"})
_SIZE: Size = (256, 256)


class Stc(PaperProtocol):
    """The protocol: scenes 01 to 13, of which 13 is not judged."""

    name: ClassVar[str] = "stc"
    title: ClassVar[str] = "ShanghaiTech Campus"
    layout: ClassVar[str] = (
        "training/videos/SS_VVV.avi and testing/{frames/SS_VVVV/*.jpg, test_frame_mask/SS_VVVV.npy, "
        "test_pixel_mask/SS_VVVV.npy}"
    )
    source: ClassVar[str] = "Luo et al., ICCV 2017"
    complete: ClassVar[int] = 12
    unit: ClassVar[str] = "scene"
    units: ClassVar[str] = "scenes"
    level: ClassVar[str] = "frame"
    pooled: ClassVar[bool] = True
    videos: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (
        "Scores are raw: not smoothed over time, nor normalised per clip, as video papers do before they pool.",
    )

    @classmethod
    def find(cls, root: Path) -> list[str]:
        """Scenes that have a training video."""
        return sorted({path.stem.partition("_")[0] for path in _videos(root)})

    def geometry(self, detector: str, usual: Size, asked: Size | None = None) -> Geometry:
        """Resize whole frames; 256x256 for the detectors whose papers say so."""
        return Geometry(asked or (_SIZE if detector in CROPPED else usual))

    def split(self, category: str) -> Split:
        """Pair frames with their places in the masks' arrays."""
        videos = [path for path in _videos(self.root) if path.stem.partition("_")[0] == category]
        testing = self.root / "testing"
        clips = sorted(f for f in (testing / "frames").glob(f"{category}_*") if f.is_dir())
        sizes = Sizes(f"{self.root}, scene {category}")
        train = _VideoFrames(self.root, videos, self.every, sizes)
        if not clips and category in WITHOUT_TRUTH:
            return Split(train, (), masks=False, content="", sizes=sizes, unjudged="the dataset has no ground truth")
        if not clips:
            raise DataError(f"scene {category} has no test frames in {testing / 'frames'}: fetch the dataset again")
        tests: list[TestPicture] = []
        arrays: list[Path] = []
        for clip in clips:
            frames, pixels = (testing / kind / f"{clip.name}.npy" for kind in ("test_frame_mask", "test_pixel_mask"))
            # Numbers have three digits, and four from the thousandth frame on.
            numbered = sorted(pictures_in(clip), key=lambda f: (len(f.stem), f.stem))
            tests += _clip(numbered, clip, frames, pixels)
            arrays += [frames, pixels]
        both_kinds(tests, testing / "frames" / f"{category}_*")
        named = content(self.root, [*videos, *arrays, *(test.path for test in tests)])
        return Split(train, tests, masks=True, content=named, sizes=sizes)


@dataclass(frozen=True, slots=True)
class MaskFrame:
    """One frame's mask in an array `[frames, H, W]`, 0 where nothing is wrong; it may mark nothing."""

    array: Path
    number: int

    def read(self, picture: Picture) -> Mask:
        """Read this frame's part of the file alone."""
        mask: Mask = np.asarray(_array(self.array, 3)[self.number]) != 0
        if mask.shape != picture.shape[:2]:
            (height, width), (mask_height, mask_width) = picture.shape[:2], mask.shape
            raise DataError(
                f"masks {self.array} are {mask_width}x{mask_height}, frame {self.number} is {width}x{height}: "
                "they must be equal"
            )
        return mask


@dataclass(frozen=True, slots=True)
class _VideoFrames:
    """Training frames of one scene; decoded once, since a video cannot be read out of order without decoding it all."""

    root: Path
    videos: Sequence[Path]
    every: int
    sizes: Sizes

    def __len__(self) -> int:
        """Count by what the files promise."""
        return sum(-(-round(_promised(path)) // self.every) for path in self.videos)

    def images(self, geometry: Geometry, report: Report) -> Images:
        """Keep the prepared frames in a temporary file.

        Raises:
            DataError: a video cannot be read, too few frames can, or the temporary folder is full.
        """
        kept = SpooledImages.copy(_Decoded(self, geometry, report))
        if len(kept) < 2:
            raise DataError(f"{self.videos[0]} gave {len(kept)} frames: a model needs at least two, better fifty")
        return kept


class _Decoded:
    """Frames as they are decoded, once."""

    def __init__(self, frames: _VideoFrames, geometry: Geometry, report: Report) -> None:
        self._frames, self._geometry, self._report = frames, geometry, report

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[RGB]:
        done, total = 0, len(self)
        unreadable = Unreadable(str(self._frames.videos[0].parent), total)
        for path in self._frames.videos:
            try:
                with closing(VideoSource(path, "rate=max")) as source:
                    number = 0
                    while (grab := source.grab()) is not None:
                        if number % self._frames.every == 0:
                            done += 1
                            self._report("reading videos", done, total)
                            if grab.picture is None:
                                unreadable.add(grab.name, "it could not be decoded")
                            else:
                                self._frames.sizes.check(grab.name, grab.picture)
                                yield self._geometry.picture(grab.picture, grab.name)
                        number += 1
            except SourceError as exc:
                raise DataError(f"training video {exc}") from exc

    def select(self, indices: Sequence[int]) -> Images:
        raise NotImplementedError("frames are decoded in their order: copy them first")


def _clip(frames: Sequence[Path], clip: Path, labels: Path, pixels: Path) -> list[TestPicture]:
    """Frames of one clip with their labels."""
    anomalous = _array(labels, 1)
    masks = _array(pixels, 3)
    for array, path in ((anomalous, labels), (masks, pixels)):
        if len(array) != len(frames):
            raise DataError(f"{path} has {len(array)} frames, {clip} has {len(frames)}: they must be equal")
    return [TestPicture(f, bool(anomalous[n]), MaskFrame(pixels, n)) for n, f in enumerate(frames)]


def _array(path: Path, dimensions: int) -> NDArray[np.generic]:
    """Open an array without reading it."""
    try:
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as exc:
        raise DataError(f"{path} is missing: its frames have no ground truth") from exc
    except (OSError, ValueError, EOFError) as exc:
        raise DataError(f"{path} is no NumPy array: {str(exc).splitlines()[0]}") from exc
    if array.ndim != dimensions or array.dtype.kind not in "buif":
        raise DataError(f"{path} is {array.dtype} {list(array.shape)}: expected numbers with {dimensions} axes")
    return array


def _promised(path: Path) -> float:
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    try:
        return max(0.0, capture.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        capture.release()


def _videos(root: Path) -> list[Path]:
    return sorted((root / "training" / "videos").glob("[0-9]*_*.avi"))
