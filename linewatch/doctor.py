"""`linewatch doctor`: whether this machine can run linewatch, and what to do where it cannot."""

import ctypes
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from linewatch.findings import Finding, bad, good, note
from storage.errors import StorageError
from storage.server import find_binary

_PARTS = ("torch", "torchvision", "opencv-python", "pyzmq", "redis", "sqlalchemy", "nicegui", "pydantic")
_OURS = ("ingest", "inference", "alerts", "storage")
_LOW_DISK_GB = 5.0
_NOT_SYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
_BUILT_S = 1_735_689_600  # 2025-01-01: a clock before that was never set


def diagnose(data: Path | None) -> Iterator[Finding]:
    """Look at this machine.

    Args:
        data: the data folder of a configuration, if one was given.
    """
    yield good("linewatch", f"{version('linewatch')} on Python {platform.python_version()}, {platform.platform()}")
    yield from _parts()
    yield _alone()
    yield _gpu()
    yield _redis_server()
    yield _clock()
    folder = data or Path(tempfile.gettempdir())
    yield _disk(folder)
    yield _writable(folder)


def _parts() -> Iterator[Finding]:
    for part in _PARTS:
        try:
            yield good(part, version(part))
        except PackageNotFoundError:
            yield note(part, "is not installed", "fine for an image of a single role; otherwise: pip install linewatch")


def _alone() -> Finding:
    """Our packages have generic names: another distribution's may have taken their place."""
    home = Path(__file__).resolve().parent.parent
    strangers = [name for name in _OURS if Path(import_module(name).__file__ or "").resolve().parent.parent != home]
    if strangers:
        mend = "install linewatch in an environment of its own"
        return bad("packages", f"{', '.join(strangers)} is another project's", mend)
    return good("packages", f"all from {home}")


def _gpu() -> Finding:
    try:
        import torch  # noqa: PLC0415 - slow to load, and not in every image
    except ImportError as error:
        return note("GPU", f"torch cannot be loaded ({error})", "only workers need it")
    if not torch.cuda.is_available():
        mend = (
            "CPU works; for CUDA install NVIDIA's driver" if shutil.which("nvidia-smi") is None else "update the driver"
        )
        return note("GPU", f"none that torch {torch.__version__} can use", mend)
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return good("GPU", ", ".join(names))


def _redis_server() -> Finding:
    try:
        return good("redis-server", find_binary())
    except StorageError as error:
        return bad("redis-server", str(error), "needed for `redis: embedded`")


def _clock() -> Finding:
    now = time.time()
    if now < _BUILT_S:
        return bad("clock", f"says {time.strftime('%Y-%m-%d', time.gmtime(now))}", "set the clock, run an NTP client")
    if sys.platform == "linux":
        # struct timex starts with `modes`; all zero asks without changing anything.
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
        if state == _NOT_SYNCHRONISED:
            return note("clock", "is not synchronised: times of alerts may be off", "run an NTP client")
    return good("clock", time.strftime("%Y-%m-%d %H:%M:%S %z"))


def _disk(folder: Path) -> Finding:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free_gb = shutil.disk_usage(there).free / 1e9
    text = f"{free_gb:.1f} GB free at {there}"
    if free_gb < _LOW_DISK_GB:
        return note("disk", text, f"make room: evidence needs up to `retention.max_gb`, aim for {_LOW_DISK_GB:.0f} GB")
    return good("disk", text)


def _writable(folder: Path) -> Finding:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"linewatch")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return bad("data", f"{there} cannot be written: {error.strerror}", "give this user the folder: chown")
    return good("data", f"{there} can be written")
