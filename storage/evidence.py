"""The pictures that go with verdicts, on a disk they never fill.

::

    evidence/
        <line>/<YYYY-MM-DD>/<run>-<seq>/    a day in UTC
            frame.jpg       what the camera saw; at full resolution once capture has sent it
            heat.jpg        frame and heat map, see `storage.heatmap`
            map.npz         `map` [h, w] float32 and the `threshold` of its values, both on the scale that all models'
                            maps share (those of a model calibrated by an older version: in its own units)
        latest/<line>.jpg   the last picture of each line

A folder appears as a whole. Unlike verdicts, pictures are not synced to the disk: a power failure may cost the last
few.
"""

import errno
import io
import os
import re
import shutil
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import structlog
from numpy.typing import NDArray

from storage.config import RetentionConfig
from storage.durable import FULL, on_disk
from storage.errors import StorageError, StorageFull
from storage.heatmap import Box, draw
from storage.shelf import Shelf, folder_bytes

FRAME, HEAT, MAP = "frame.jpg", "heat.jpg", "map.npz"
_LATEST = "latest"
_INCOMING = ".incoming"
_QUALITY = 90
_REWALK_S = 900.0
"""`prune` looks at every file anew after this time, in case other processes have changed some."""
_SAY_S = 60.0
"""The log is told of pruning this often."""
_LEFT_BEHIND_S = 3600.0
_DAY_S = 24 * 3600
_GB = 1e9

_LINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_RUN = re.compile(r"[0-9A-Za-z]{1,64}")

log = structlog.get_logger()


class EvidenceStore:
    """Pictures by line, day and frame; safe in several threads, and in several processes on one folder.

    Each process bounds what it knows of, and learns in `prune`, called now and then, what the others have added.

    Args:
        root: folder of the store; created.
        retention: how much is kept.

    Raises:
        StorageError: the folder cannot be made or read.
    """

    def __init__(self, root: Path, retention: RetentionConfig) -> None:
        self.root = root
        self._retention = retention
        self._lock = threading.Lock()
        with on_disk(root):
            for folder in (root, root / _INCOMING, root / _LATEST):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _clear_incoming(root / _INCOMING)
            self._shelf = Shelf(root)
        self._walked = time.monotonic()
        self._unsaid, self._said = 0, float("-inf")

    @property
    def held_bytes(self) -> int:
        """How much is kept, as far as this process knows."""
        return self._shelf.bytes

    def put(
        self,
        *,
        line: str,
        run: str,
        seq: int,
        frame: NDArray[np.uint8],
        anomaly_map: NDArray[np.float32] | None,
        threshold: float | None,
        captured_ns: int,
        box: Box | None = None,
    ) -> str:
        """Keep the pictures of one frame; a frame that has some keeps them.

        Args:
            line: its line.
            run: its run.
            seq: its number.
            frame: `[H, W, 3]` uint8 RGB, as the detector saw it.
            anomaly_map: `[h, w]` float32, higher = more anomalous; None: it was not judged.
            threshold: value of the map above which a pixel counts as anomalous, if there is one.
            captured_ns: wall clock of capture, nanoseconds since the epoch.
            box: the largest region above it, to be marked.

        Returns:
            Its folder, relative to the store.

        Raises:
            StorageFull: there is no room even without all older evidence.
            StorageError: a name is none, or the disk refuses.
        """
        folder = _folder(line, run, seq, captured_ns)
        files = _encode(frame, anomaly_map, threshold, box)
        size = sum(map(len, files.values()))
        with self._lock, on_disk(self.root / folder):
            if (self.root / folder).is_dir():
                return folder
            self._make_room(size)
            try:
                self._place(folder, files, captured_ns)
            except OSError as exc:
                # Full although there seemed to be room: a quota, or others fill the disk faster than it is looked at.
                if exc.errno not in FULL or not self._release(4 * size):
                    raise
                self._place(folder, files, captured_ns)
            self._shelf.add(folder, captured_ns=captured_ns, size=size)
        return folder

    def portrait(self, *, line: str, run: str, seq: int, jpeg: bytes) -> None:
        """Replace a frame's picture by the one at full resolution; does nothing when its evidence is gone.

        Raises:
            StorageFull: there is no room; the small picture stays.
            StorageError: a name is none, this is no JPEG, or the disk refuses.
        """
        _check_jpeg(jpeg, f"portrait of {line}/{run}/{seq}")
        name = _folder(line, run, seq, 0).rpartition("/")[2]
        with self._lock, on_disk(self.root / line):
            folder = next(self.root.joinpath(line).glob(f"????-??-??/{name}"), None)
            if folder is None:
                return
            self._make_room(len(jpeg))
            if not folder.is_dir():
                return  # it was the oldest itself
            captured_ns = folder.stat().st_mtime_ns
            self._replace(folder / FRAME, jpeg)
            _date(folder, captured_ns)
            relative = folder.relative_to(self.root).as_posix()
            self._shelf.add(relative, captured_ns=captured_ns, size=folder_bytes(folder))

    def latest(self, line: str, jpeg: bytes) -> None:
        """Replace the picture shown as a line's last one.

        Raises:
            StorageFull: there is no room.
            StorageError: the name is none, this is no JPEG, or the disk refuses.
        """
        path = self.root / _LATEST / f"{_checked(line, _LINE, 'line')}.jpg"
        _check_jpeg(jpeg, f"latest picture of {line}")
        with on_disk(path):
            self._replace(path, jpeg)

    def prune(self) -> int:
        """Remove what is too old or too much, oldest first; how many frames' evidence went.

        Raises:
            StorageError: the disk refuses.
        """
        with self._lock, on_disk(self.root):
            if time.monotonic() - self._walked > _REWALK_S:
                self._shelf.walk()
                self._walked = time.monotonic()
            else:
                self._shelf.glance()
            return self._prune(0)

    def _prune(self, size: int) -> int:
        """Remove evidence until `size` more bytes are within all bounds, or none is left."""
        oldest_kept_ns = (time.time() - self._retention.max_days * _DAY_S) * 1e9
        removed = 0
        while (oldest_ns := self._shelf.oldest_ns()) is not None:
            within = self._shelf.bytes + size <= self._retention.max_gb * _GB
            if oldest_ns >= oldest_kept_ns and within and self._lacking(size) <= 0:
                break
            self._shelf.drop_oldest()
            removed += 1
        self._unsaid += removed
        if self._unsaid and time.monotonic() - self._said > _SAY_S:  # a full store gives way with every picture
            left_mb = round(self._shelf.bytes / 1e6, 1)
            log.info("evidence pruned", frames=self._unsaid, left=len(self._shelf), left_mb=left_mb)
            self._unsaid, self._said = 0, time.monotonic()
        return removed

    def _make_room(self, size: int) -> None:
        if size > self._retention.max_gb * _GB:
            raise StorageFull(
                f"{self.root}: {size} bytes are more than retention.max_gb {self._retention.max_gb}: raise it"
            )
        self._prune(size)
        lacking = self._lacking(size)
        if lacking > 0:
            raise StorageFull(
                f"{self.root}: {lacking / _GB:.3f} GB short of retention.min_free_gb {self._retention.min_free_gb} "
                "without any evidence: free some room on this disk, or lower it"
            )

    def _lacking(self, size: int) -> float:
        """Bytes that would be missing to the room that is always left."""
        return self._retention.min_free_gb * _GB + size - shutil.disk_usage(self.root).free

    def _release(self, size: int) -> bool:
        """Remove the oldest evidence, `size` bytes whatever the bounds say; False when there was none."""
        released, any_left = 0, len(self._shelf) > 0
        while released < size and len(self._shelf):
            released += self._shelf.drop_oldest()
        return any_left

    def _place(self, folder: str, files: dict[str, bytes], captured_ns: int) -> None:
        target = self.root / folder
        new = self.root / _INCOMING / uuid.uuid4().hex
        try:
            new.mkdir(mode=0o700)
            for name, data in files.items():
                (new / name).write_bytes(data)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.rename(target)
            _date(target, captured_ns)
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            # Another process has kept the same frame in this very moment: its pictures stay.
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _replace(self, path: Path, data: bytes) -> None:
        new = self.root / _INCOMING / uuid.uuid4().hex
        try:
            new.write_bytes(data)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)


def _check_jpeg(jpeg: bytes, what: str) -> None:
    if not jpeg.startswith(b"\xff\xd8\xff"):
        raise StorageError(f"{what}: {len(jpeg)} bytes are no JPEG: send one")


def _folder(line: str, run: str, seq: int, captured_ns: int) -> str:
    if seq < 0:
        raise StorageError(f"frame {seq} of {line}: numbers begin at 0: correct the caller")
    try:
        day = datetime.fromtimestamp(captured_ns // 10**9, UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError) as exc:
        raise StorageError(f"frame {seq} of {line}: captured at {captured_ns} ns is no date: set its clock") from exc
    return f"{_checked(line, _LINE, 'line')}/{day}/{_checked(run, _RUN, 'run')}-{seq}"


def _checked(name: str, pattern: re.Pattern[str], what: str) -> str:
    """Refuse what could lead out of the store."""
    if pattern.fullmatch(name) is None:
        raise StorageError(f"{name[:80]!r} is no name of a {what}: use letters and digits")
    return name


def _encode(
    frame: NDArray[np.uint8], anomaly_map: NDArray[np.float32] | None, threshold: float | None, box: Box | None
) -> dict[str, bytes]:
    files = {FRAME: _jpeg(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))}
    if anomaly_map is not None and anomaly_map.size > 1:  # a detector without pixel maps gives one value
        files[HEAT] = _jpeg(draw(frame, anomaly_map, threshold, box=box))
        arrays = io.BytesIO()
        # Not compressed: float noise shrinks by a seventh only, for most of the time a picture costs.
        np.savez(arrays, map=anomaly_map, threshold=np.float64("nan" if threshold is None else threshold))
        files[MAP] = arrays.getvalue()
    return files


def _jpeg(picture: NDArray[np.generic]) -> bytes:
    done, encoded = cv2.imencode(".jpg", np.asarray(picture), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise StorageError(f"a picture of shape {picture.shape} cannot become a JPEG: give [H, W, 3] uint8")
    return encoded.tobytes()


def _date(folder: Path, captured_ns: int) -> None:
    """Let the modification time be the time of capture: retention goes by it."""
    os.utime(folder, ns=(captured_ns, captured_ns))


def _clear_incoming(folder: Path) -> None:
    """Remove what a killed process left unfinished; another one may be writing right now, so only what is old."""
    for left in folder.iterdir():
        try:
            if time.time() - left.stat().st_mtime < _LEFT_BEHIND_S:
                continue
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()
        except FileNotFoundError:
            continue  # it has just been finished
