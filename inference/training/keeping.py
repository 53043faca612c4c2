"""What a training keeps on disk while it lasts: its checkpoint beside the model, features in a cache.

::

    MODELS/NAME/.training/<detector>.checkpoint    gone as soon as the bundle is written; the registry does not see it
    $LINEWATCH_CACHE                               features of frozen backbones; else linewatch/features under
                                                   $XDG_CACHE_HOME (~/.cache)
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from inference.detectors.checkpoints import discard
from inference.errors import FitError
from storage.durable import on_disk

log = structlog.get_logger()


def features_folder() -> Path:
    """Folder of the cached features; it need not exist."""
    if given := os.environ.get("LINEWATCH_CACHE"):
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "linewatch" / "features"


def checkpoint_file(out: Path, detector: str) -> Path:
    """Where the training of a model, `MODELS/NAME`, keeps its state."""
    return out / ".training" / f"{detector}.checkpoint"


@contextmanager
def checkpointing(checkpoint: Path, *, resume: bool) -> Iterator[None]:
    """Be the only training of a model; its checkpoint outlives whatever goes wrong inside, and nothing else.

    Args:
        checkpoint: the file.
        resume: go on from one that is there; else it is removed.

    Raises:
        FitError: another process trains this model.
        storage.errors.StorageError: the folder cannot be made.
    """
    with _alone(checkpoint.parent):
        if not resume and discard(checkpoint):
            log.warning("an interrupted training is given up, --resume would have gone on", removed=str(checkpoint))
        if resume and not checkpoint.is_file():
            log.warning("no interrupted training to go on with: it starts anew", looked_for=str(checkpoint))
        yield
        discard(checkpoint)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder, and remove it in the end when it is empty; the kernel frees that of a killed process."""
    with on_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise FitError(
                f"{folder.parent} is being trained by another process: wait for it, or choose another --out"
            ) from exc
        try:
            yield
        finally:
            with suppress(OSError):  # a checkpoint is in it
                folder.rmdir()
    finally:
        os.close(held)
