"""`linewatch doctor`: whether this machine can run linewatch, and what to do where it cannot."""

import platform
import tempfile
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from linewatch.config import Config
from linewatch.doctor.belongings import belongings
from linewatch.doctor.machine import machine
from linewatch.doctor.reach import ports, store
from linewatch.findings import Finding, bad, good, note
from storage.errors import StorageError
from storage.server import find_binary

_PARTS = (
    "torch",
    "torchvision",
    "opencv-python",
    "pyzmq",
    "redis",
    "sqlalchemy",
    "nicegui",
    "pydantic",
    "prometheus-client",
)
_OURS = ("ingest", "inference", "alerts", "storage")


def diagnose(config: Config | None, file: Path | None = None, *, look_at_cameras: bool = True) -> Iterator[Finding]:
    """Look at this machine, and at what a configuration asks of it.

    Args:
        config: the configuration; None: the machine alone.
        file: where it was read from.
        look_at_cameras: also reach for each source.
    """
    yield good("linewatch", f"{version('linewatch')} on Python {platform.python_version()}, {platform.platform()}")
    yield from _parts()
    yield _alone()
    yield from machine(config, Path(tempfile.gettempdir()) if config is None else config.data)
    if config is None or file is None:
        yield _redis_server()
        return
    yield from belongings(config, file)
    yield from ports(config)
    yield from store(config)
    if look_at_cameras:
        yield from _cameras(config)


def _parts() -> Iterator[Finding]:
    there, missing = [], []
    for part in _PARTS:
        try:
            there.append(f"{part} {version(part)}")
        except PackageNotFoundError:
            missing.append(part)
    yield good("parts", ", ".join(there))
    if missing:
        mend = "fine for an image of a single role; otherwise: pip install linewatch"
        yield note("parts", f"not installed: {', '.join(missing)}", mend)


def _alone() -> Finding:
    """Our packages have generic names: another distribution's may have taken their place."""
    home = Path(__file__).resolve().parents[2]
    strangers = [name for name in _OURS if Path(import_module(name).__file__ or "").resolve().parent.parent != home]
    if strangers:
        mend = "install linewatch in an environment of its own"
        return bad("packages", f"{', '.join(strangers)} is another project's", mend)
    return good("packages", f"all from {home}")


def _cameras(config: Config) -> Iterator[Finding]:
    try:
        from linewatch.doctor.cameras import cameras  # noqa: PLC0415 - brings OpenCV, which not every image has
    except ImportError as error:
        yield note("cameras", f"cannot be looked at from here ({error})", "run doctor on the hosts of the captures")
        return
    yield from cameras(config)


def _redis_server() -> Finding:
    try:
        return good("redis-server", find_binary())
    except StorageError as error:
        return bad("redis-server", str(error), "needed for `redis: embedded`")
