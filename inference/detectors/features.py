"""Features of frozen backbones, computed once and kept on disk, so that an epoch costs only what learns.

They are kept as float16 and rounded to it also where there is no room to keep them: the cache changes the time of a
training, never its outcome. A file's name is a hash of all that makes its content; the oldest go first when room is
short.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.detectors.backbones import Backbone
from inference.detectors.base import Progress

log = structlog.get_logger()
_SUFFIX = ".features"


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
        batch: images the backbone sees at once.
        progress: told how far the first computation is.
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
        batch: int = 8,
    ) -> None:
        self.shapes = backbone.shapes(*size)
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
        about = f"{backbone.name} {backbone.nodes} {backbone.sha256} {size} {fingerprint} {count} {device}"
        path = folder / f"{hashlib.sha256(about.encode()).hexdigest()[:32]}{_SUFFIX}"
        if not (path.is_file() and path.stat().st_size == count * row):
            _make_room(folder, room - count * row)
            self._write(path, batch, progress)
        os.utime(path)
        self._kept = np.memmap(path, np.float16, mode="r", shape=(count, row // 2))

    def __len__(self) -> int:
        return self._count

    def take(self, numbers: Sequence[int]) -> list[Tensor]:
        """Features `[B, C, h, w]` float32 of each tap, on the backbone's device."""
        if self._kept is None:
            return [f.half().float() for f in self._backbone(self._take(numbers))]
        device = next(self._backbone.parameters()).device
        rows = torch.from_numpy(self._kept[list(numbers)]).to(device).float()
        parts = rows.split(self._lengths, dim=1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def _write(self, path: Path, batch: int, progress: Progress) -> None:
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix="writing-", delete=False) as file:
                try:
                    for rows, done in self._compute(batch):
                        file.write(rows.tobytes())
                        progress(done, self._count, "computing features")
                    file.flush()
                    Path(file.name).replace(path)
                finally:
                    Path(file.name).unlink(missing_ok=True)
        except OSError as exc:
            raise OSError(exc.errno, f"no room for features in {path.parent}: {exc.strerror}") from exc

    def _compute(self, batch: int) -> Iterator[tuple[NDArray[np.float16], int]]:
        for first in range(0, self._count, batch):
            numbers = range(first, min(first + batch, self._count))
            features = self._backbone(self._take(numbers))
            yield torch.cat([f.flatten(1).half() for f in features], dim=1).cpu().numpy(), numbers.stop


def _make_room(folder: Path, room: int) -> None:
    """Delete the features that were used longest ago until those left fit."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda file: file.stat().st_mtime)
    total = sum(file.stat().st_size for file in files)
    for file in files:
        if total <= room:
            break
        total -= file.stat().st_size
        file.unlink()
