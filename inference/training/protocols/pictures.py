"""Pictures of a dataset on their way through its geometry: to learn from, and to be judged.

A table is compared with a paper's only if it rests on the same pictures, so one that cannot be read is an error here,
where fitting a camera's model would leave it out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
import structlog

from inference.errors import DataError
from inference.training.datasets import Mask, read_mask
from inference.training.images import Images
from inference.training.protocols.geometry import Geometry
from inference.training.report import Report
from ingest.errors import ImageError
from ingest.frame import Picture
from ingest.pictures import read_picture
from ingest.preprocess import RGB

log = structlog.get_logger()


class Truth(Protocol):
    """Where the defects of one picture are."""

    def read(self, picture: Picture) -> Mask:
        """Read the mask `[H, W]` of a picture `[H, W, 3]`.

        Raises:
            DataError: it is of another size, or does not fit the picture otherwise.
            ingest.errors.ImageError: it cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A mask in a picture file: defective where its value exceeds `above`."""

    path: Path
    above: int = 127

    def read(self, picture: Picture) -> Mask:
        """Read it; it marks something."""
        return read_mask(self.path, picture, above=self.above)


@dataclass(frozen=True, slots=True)
class TestPicture:
    """One picture to be judged; without truth it has no defective pixel."""

    __test__ = False  # not a test of pytest's

    path: Path
    anomalous: bool
    truth: Truth | None = None


@dataclass(slots=True)
class Sizes:
    """Notices pictures of unlike sizes, and says so once: each is resized by itself, so proportions come to differ."""

    where: str
    quiet: bool = False
    _first: tuple[str, tuple[int, ...]] | None = field(default=None, init=False)

    def check(self, name: str, picture: Picture) -> None:
        """Look at one picture."""
        if self._first is None:
            self._first = name, picture.shape
        elif picture.shape != self._first[1] and not self.quiet:
            self.quiet = True
            (height, width), (first_height, first_width) = picture.shape[:2], self._first[1][:2]
            log.warning(
                "pictures of unlike sizes: each is resized by itself",
                of=self.where,
                image=name,
                size=f"{width}x{height}",
                first=f"{first_width}x{first_height}",
            )


class TrainingSet(Protocol):
    """Good pictures of one category."""

    def __len__(self) -> int:
        """How many, as far as is known before they are read."""
        ...

    def images(self, geometry: Geometry, report: Report) -> Images:
        """Prepare them.

        Raises:
            DataError: they cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class PictureFiles:
    """Good pictures in files; names, which random geometry follows from, are relative to `root`."""

    root: Path
    paths: Sequence[Path]
    sizes: Sizes

    def __len__(self) -> int:
        return len(self.paths)

    def images(self, geometry: Geometry, report: Report) -> Images:  # noqa: ARG002 - nothing takes long here
        """Give the pictures, decoded anew in each pass."""
        return _Placed(self, geometry)


class _Placed:
    """`inference.training.images.Images` of files in a geometry."""

    def __init__(self, files: PictureFiles, geometry: Geometry) -> None:
        self._files, self._geometry = files, geometry

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[RGB]:
        for path in self._files.paths:
            try:
                picture = read_picture(path)
            except ImageError as exc:
                raise DataError(f"training image {path} cannot be used: {exc}") from exc
            self._files.sizes.check(str(path), picture)
            yield self._geometry.picture(picture, name_in(self._files.root, path))

    def select(self, indices: Sequence[int]) -> "_Placed":
        chosen = [self._files.paths[i] for i in indices]
        return _Placed(PictureFiles(self._files.root, chosen, self._files.sizes), self._geometry)


def read_tests(
    root: Path, pictures: Sequence[TestPicture], geometry: Geometry, sizes: Sizes
) -> Iterator[tuple[TestPicture, RGB, Mask]]:
    """Read picture after picture: what it is, `[h, w, 3]` uint8 RGB and its mask `[h, w]`.

    A defect that lies outside what the geometry cuts out leaves an empty mask; its picture counts as anomalous still.

    Raises:
        DataError: a picture or its mask cannot be read, or they do not fit each other.
    """
    width, height = geometry.size
    for test in pictures:
        name = name_in(root, test.path)
        mask = np.zeros((height, width), bool)
        try:
            picture = read_picture(test.path)
            if test.truth is not None:
                mask = geometry.mask(test.truth.read(picture), name)
        except ImageError as exc:
            raise DataError(f"test image {test.path} cannot be used: {exc}") from exc
        sizes.check(str(test.path), picture)
        yield test, geometry.picture(picture, name), mask


def name_in(root: Path, path: Path) -> str:
    """Name of a file in its dataset, the same wherever that lies."""
    return path.relative_to(root).as_posix()


def content(root: Path, paths: Sequence[Path]) -> str:
    """Sha256 over names and sizes in bytes: tells one dataset from another without reading all of it.

    Raises:
        DataError: a file has gone.
    """
    whole = sha256()
    for path in sorted(paths):
        try:
            whole.update(f"{name_in(root, path)}\0{path.stat().st_size}\n".encode())
        except OSError as exc:
            raise DataError(f"{path} cannot be read: {exc.strerror}") from exc
    return whole.hexdigest()
