"""Features of frozen backbones, computed once and kept on disk, so that an epoch costs only what learns.

They are kept as float16 and rounded to it also where there is no room to keep them: the cache changes the time of a
training, never its outcome. A file's name is a hash of all that makes its content; the oldest go first when room is
short.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.detectors.backbones import Backbone
from inference.detectors.base import Progress
from inference.errors import FitError

log = structlog.get_logger()
_SUFFIX = ".features"
_PREFIX = "writing-"
_GROUP = 8  # images the backbone always sees at once: for another number it may round in another way
_ABANDONED_S = 3600.0  # a file being written grows every few seconds


class FrozenFeatures:
    """Features of numbered images.

    Args:
        backbone: frozen, with weights.
        count: how many images there are.
        take: gives images `[B, 3, H, W]` by number.
        fingerprint: names the images.
        size: width and height of the images.
        folder: where features are kept; None: nowhere.
        room: bytes they may take in the folder, all files together.
        progress: told how far the first computation is.

    Raises:
        FitError: the folder cannot be written, or the features are too large for float16.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        count: int,
        take: Callable[[Sequence[int]], Tensor],
        fingerprint: str,
        size: tuple[int, int],
        folder: Path | None,
        room: int,
        progress: Progress,
    ) -> None:
        self.shapes = backbone.shapes(*size)
        self.batch = 32  # images at once, in a pass over all
        self._backbone, self._count, self._take = backbone, count, take
        self._lengths = [c * h * w for c, h, w in self.shapes]
        self._kept: NDArray[np.float16] | None = None
        row = 2 * sum(self._lengths)
        if folder is None:
            return
        if count * row > room:
            log.warning(
                "features do not fit their cache: each epoch computes them anew",
                needed_gib=round(count * row / 2**30, 1),
                cap_gib=round(room / 2**30, 1),
            )
            return
        device = next(backbone.parameters()).device.type
        made_by = f"linewatch {version('linewatch')} torch {torch.__version__}"  # either may compute other features
        about = f"{made_by} {backbone.name} {backbone.nodes} {backbone.sha256} {size} {fingerprint} {count} {device}"
        path = folder / f"{hashlib.sha256(about.encode()).hexdigest()[:32]}{_SUFFIX}"
        try:
            self._kept = self._open(path)
            if self._kept is None:
                _make_room(folder, room - count * row)
                self._kept = self._write(path, progress)
        except OSError as exc:
            reason = exc.strerror or exc
            raise FitError(
                f"features cannot be kept in {folder}: {reason}; make room or name another folder (of fit: set "
                "LINEWATCH_CACHE, or keep none by --features-gb 0)"
            ) from exc

    def __len__(self) -> int:
        return self._count

    def take(self, numbers: Sequence[int]) -> list[Tensor]:
        """Features `[B, C, h, w]` float32 of each tap, on the backbone's device."""
        if self._kept is None:
            return [half.float().contiguous() for half in self._halves(numbers)]
        device = next(self._backbone.parameters()).device
        rows = torch.from_numpy(self._kept[list(numbers)]).to(device).float()
        parts = torch.split(rows, self._lengths, dim=1)
        return [part.reshape(-1, *shape).contiguous() for part, shape in zip(parts, self.shapes, strict=True)]

    def batches(self) -> Iterator[list[Tensor]]:
        """One pass over all images, some at a time, in order: features of each tap, as `take` gives them."""
        for first in range(0, self._count, self.batch):
            yield self.take(range(first, min(first + self.batch, self._count)))

    def _halves(self, numbers: Sequence[int]) -> list[Tensor]:
        groups = [self._group(numbers[first : first + _GROUP]) for first in range(0, len(numbers), _GROUP)]
        halves = [torch.cat(parts) for parts in zip(*groups, strict=True)]
        if not all(bool(half.isfinite().all()) for half in halves):
            raise FitError(f"features of {self._backbone.name} are too large for float16: choose other weights")
        return halves

    def _group(self, numbers: Sequence[int]) -> list[Tensor]:
        images = self._take(numbers)
        filling = images[-1:].expand(_GROUP - len(images), -1, -1, -1)
        return [feature[: len(images)].half() for feature in self._backbone(torch.cat([images, filling]))]

    def _open(self, path: Path) -> NDArray[np.float16] | None:
        """The features in a file; None if it is not there, or not whole. Another process may delete it any moment."""
        shape = (self._count, sum(self._lengths))
        try:
            if path.stat().st_size != 2 * shape[0] * shape[1]:
                return None
            kept = np.memmap(path, np.float16, mode="r", shape=shape)
            os.utime(path)
        except FileNotFoundError:
            return None
        return kept

    def _write(self, path: Path, progress: Progress) -> NDArray[np.float16]:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_PREFIX, delete=False) as file:
            try:
                for rows, done in self._compute():
                    file.write(rows.tobytes())
                    progress(done, self._count, "computing features")
                file.flush()
                kept = np.memmap(file.name, np.float16, mode="r", shape=(self._count, sum(self._lengths)))
                Path(file.name).replace(path)
            finally:
                Path(file.name).unlink(missing_ok=True)
        return kept

    def _compute(self) -> Iterator[tuple[NDArray[np.float16], int]]:
        for first in range(0, self._count, _GROUP):
            numbers = range(first, min(first + _GROUP, self._count))
            yield torch.cat([half.flatten(1) for half in self._halves(numbers)], dim=1).cpu().numpy(), numbers.stop


def _make_room(folder: Path, room: int) -> None:
    """Delete the features that were used longest ago until those left fit, and what a killed process left."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[tuple[float, int, Path]] = []
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # another process makes room, too
            about = file.stat()
            if file.suffix == _SUFFIX:
                found.append((about.st_mtime, about.st_size, file))
            elif file.name.startswith(_PREFIX) and about.st_mtime < time.time() - _ABANDONED_S:
                file.unlink()
    total = sum(size for _, size, _ in found)
    for _, size, file in sorted(found):
        if total <= room:
            break
        total -= size
        file.unlink(missing_ok=True)
