"""Good images as a stream that can be read again: one picture in memory at a time, whatever their number.

Files are decoded anew in each pass. What comes from a source (a video, a camera) is prepared once into a temporary
file, because a camera cannot be rewound and decoding a video for each epoch would cost more than reading it back.
"""

import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Protocol, Self, TypeVar, cast

import numpy as np
import structlog
import torch
from torch import Tensor

from inference.errors import DataError
from ingest.errors import ImageError
from ingest.pictures import read_picture
from ingest.preprocess import RGB, Preprocessing, prepare
from ingest.sources.base import Source

log = structlog.get_logger()
T = TypeVar("T")

MAX_CORRUPT = 0.1
"""Share of unreadable pictures above which the data, not the picture, is at fault."""


class Images(Protocol):
    """Prepared pictures `[h, w, 3]` uint8 RGB; each pass gives the same ones in the same order."""

    def __len__(self) -> int:
        """Number of pictures that could be read so far as is known."""
        ...

    def __iter__(self) -> Iterator[RGB]:
        """Start a pass.

        Raises:
            DataError: more than a tenth of the pictures cannot be read.
        """
        ...

    def select(self, indices: Sequence[int]) -> "Images":
        """Some of them, in the order of `indices` (0 to `len - 1`)."""
        ...


class Unreadable:
    """Pictures that cannot be used: each is warned of once and left out; too many are an error."""

    def __init__(self, where: str, total: int) -> None:
        self._where, self._total = where, total
        self.names: set[str] = set()

    def add(self, name: str, reason: str) -> None:
        """Leave out one picture.

        Raises:
            DataError: that makes more than a tenth of all.
        """
        if name in self.names:
            return
        self.names.add(name)
        log.warning("image left out", image=name, reason=reason, left_out=len(self.names), of=self._total)
        if len(self.names) > MAX_CORRUPT * self._total:
            raise DataError(
                f"{self._where}: {len(self.names)} of {self._total} images cannot be used, the last being {name} "
                f"({reason}): remove or replace them"
            )


class FolderImages:
    """Pictures in files."""

    def __init__(self, paths: Sequence[Path], preprocessing: Preprocessing, unreadable: Unreadable) -> None:
        self._paths = tuple(paths)
        self._preprocessing = preprocessing
        self._unreadable = unreadable

    def __len__(self) -> int:
        return len(self._readable())

    def __iter__(self) -> Iterator[RGB]:
        for path in self._readable():
            try:
                yield prepare(read_picture(path), self._preprocessing)
            except ImageError as exc:
                self._unreadable.add(str(path), str(exc))

    def select(self, indices: Sequence[int]) -> "FolderImages":
        """Some of the readable files."""
        paths = self._readable()
        return FolderImages([paths[i] for i in indices], self._preprocessing, self._unreadable)

    def _readable(self) -> list[Path]:
        return [path for path in self._paths if str(path) not in self._unreadable.names]


class PreparedImages:
    """A few pictures that are prepared already, in memory."""

    def __init__(self, pictures: Sequence[RGB]) -> None:
        self._pictures = tuple(pictures)

    def __len__(self) -> int:
        return len(self._pictures)

    def __iter__(self) -> Iterator[RGB]:
        return iter(self._pictures)

    def select(self, indices: Sequence[int]) -> "PreparedImages":
        """Some of them."""
        return PreparedImages([self._pictures[i] for i in indices])


class _Spool:
    """An unnamed temporary file, closed when the last pictures that read from it are gone."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as this object, see below
        weakref.finalize(self, self.file.close)

    def keep(self, picture: RGB, what: str) -> None:
        """Append one picture.

        Raises:
            DataError: the temporary folder is full.
        """
        rest = memoryview(picture.tobytes())
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as exc:
            raise DataError(f"no room in {tempfile.gettempdir()} for {what}") from exc


class SpooledImages:
    """Pictures of a source, prepared once into a temporary file."""

    def __init__(self, spool: _Spool, shape: tuple[int, int, int], indices: Sequence[int]) -> None:
        self._spool, self._shape, self._indices = spool, shape, indices

    @classmethod
    def spool(
        cls, source: Source, where: str, preprocessing: Preprocessing, *, every: int, limit: int
    ) -> tuple[Self, str]:
        """Keep each `every`-th picture of a source, at most `limit`.

        Returns:
            The pictures, and the fingerprint of their content.

        Raises:
            DataError: too many cannot be used, or the temporary folder is full.
            ingest.errors.SourceError: the source broke off.
        """
        width, height = preprocessing.size
        content = sha256()
        spool = _Spool()
        grabbed = kept = 0
        unusable: dict[str, str] = {}
        while kept < limit and (grab := source.grab()) is not None:
            grabbed += 1
            if (grabbed - 1) % every:
                continue
            try:
                picture = None if grab.picture is None else prepare(grab.picture, preprocessing)
                reason = "it could not be decoded"
            except ImageError as exc:
                picture, reason = None, str(exc)
            if picture is None:
                unusable[f"frame {grabbed} ({grab.name})"] = reason
                if len(unusable) > MAX_CORRUPT * limit:  # a camera that only fails must not be waited for
                    break
                continue
            spool.keep(picture, f"{limit} frames of {width}x{height}: point TMPDIR elsewhere or take fewer (--limit)")
            content.update(picture.tobytes())
            kept += 1
        seen = Unreadable(where, kept + len(unusable))
        for name, reason in unusable.items():
            seen.add(name, reason)
        return cls(spool, (height, width, 3), range(kept)), content.hexdigest()

    @classmethod
    def copy(cls, images: "Images") -> "Images":
        """Decode pictures once that will be read many times; spooled ones are as they should be.

        Raises:
            DataError: too many cannot be used, or the temporary folder is full.
        """
        if isinstance(images, SpooledImages):
            return images
        spool, kept, shape = _Spool(), 0, (0, 0, 0)
        total = len(images)  # once: it may look through all of them
        for picture in images:
            spool.keep(picture, f"{total} images of {picture.shape[1]}x{picture.shape[0]}: point TMPDIR elsewhere")
            kept, shape = kept + 1, picture.shape
        return cls(spool, shape, range(kept))

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[RGB]:
        size = int(np.prod(self._shape))
        for i in self._indices:
            # pread: passes may be under way side by side, each with its own position.
            yield np.frombuffer(os.pread(self._spool.file.fileno(), size, i * size), np.uint8).reshape(self._shape)

    def select(self, indices: Sequence[int]) -> "SpooledImages":
        """Some of the kept pictures."""
        return SpooledImages(self._spool, self._shape, [self._indices[i] for i in indices])


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Work out the next item in a thread while the caller is busy with this one."""
    end = object()
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield cast("T", item)


def groups(images: Iterable[RGB], size: int) -> Iterator[RGB]:
    """Stack pictures into `[B, h, w, 3]` uint8, B <= size, decoding one batch ahead."""
    pictures = iter(images)
    lists = iter(lambda: list(islice(pictures, size)), [])
    yield from ahead(np.stack(group) for group in lists)


def to_batch(pictures: RGB) -> Tensor:
    """`[B, h, w, 3]` uint8 to `[B, 3, h, w]` float32 in [0, 1]."""
    return torch.from_numpy(pictures.copy()).permute(0, 3, 1, 2).contiguous().float().div_(255)


class TensorImages:
    """Prepared pictures as tensors on a device, as `inference.detectors.base.TrainingImages` has them."""

    def __init__(self, images: Images, *, fingerprint: str, size: int, seed: int, device: torch.device) -> None:
        """Take pictures, batches of `size` of them, in orders that follow from `seed`."""
        self.fingerprint = fingerprint
        self._images, self._size, self._device = images, size, device
        self._orders = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self._images)

    def stream(self) -> Iterator[Tensor]:
        """One pass; gradient steps and running statistics want mixed batches, so each has another order."""
        order = self._orders.permutation(len(self._images)).tolist()
        for group in groups(self._images.select(order), self._size):
            yield to_batch(group).to(self._device)

    def take(self, numbers: Sequence[int]) -> Tensor:
        """The images of these numbers."""
        return to_batch(np.stack(list(self._images.select(numbers)))).to(self._device)
