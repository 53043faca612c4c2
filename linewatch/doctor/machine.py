"""What this machine has: cores, memory, files, disk, clock, GPU."""

import ctypes
import os
import resource
import shutil
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from inference.errors import EngineError
from linewatch.config import Config
from linewatch.findings import Finding, bad, good, note

_GB = 1e9
_LOW_DISK_GB = 5.0
_LOW_SCRATCH_GB = 0.25
_SLOW_SYNC_MS = 20.0
_SYNCS = 15
_FEW_FILES = 1024
_WORKER_GB = 1.5
"""What a worker needs with a common model: measured 0.7 to 1.3 GB."""
_NOT_SYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
_BUILT_S = 1_735_689_600  # 2025-01-01: a clock before that was never set


def machine(config: Config | None, folder: Path) -> Iterator[Finding]:
    """Look at the machine.

    Args:
        config: how much it has to do; None: not known.
        folder: where data is kept.
    """
    yield _gpu(config)
    yield _cores(config)
    yield _memory(config)
    yield _open_files(config)
    yield _disk(config, folder)
    yield _sync(folder)
    yield from _scratch()
    yield _clock()
    yield _zone(config)


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that this user can see."""
    # Not `exists`: it raises where another user's folder lies between.
    return next(parent for parent in (folder, *folder.parents) if os.access(parent, os.F_OK))


def _gpu(config: Config | None) -> Finding:
    try:
        import torch  # noqa: PLC0415 - slow to load, and not in every image

        from inference.engine import choose_device  # noqa: PLC0415 - as above
    except ImportError as error:
        return note("GPU", f"torch cannot be loaded ({error})", "only workers need it")
    driver = "install NVIDIA's driver" if shutil.which("nvidia-smi") is None else "update NVIDIA's driver"
    lacking = []
    for worker in () if config is None else config.workers:
        try:
            choose_device(worker.device)
        except EngineError as error:
            lacking.append(f"worker {worker.name}: {error}")
    if lacking:
        mend = "correct `device:`" if torch.cuda.device_count() else f"{driver}, or write `device: auto`"
        return bad("GPU", "; ".join(lacking), f"{mend}: unless it runs on another host, it would end at each start")
    if not torch.cuda.is_available():
        return note("GPU", f"none that torch {torch.__version__} can use", f"CPU works; for CUDA {driver}")
    cards = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return good("GPU", ", ".join(f"{card.name}, {card.total_memory / _GB:.0f} GB" for card in cards))


def _cores(config: Config | None) -> Finding:
    cores = len(os.sched_getaffinity(0))
    if config is None:
        return good("cores", f"{cores} for this process")
    text = f"{cores}; {len(config.lines)} to capture and {len(config.workers)} to judge share them"
    if len(config.lines) / 4 + len(config.workers) > cores:
        return note("cores", text, "move workers or cameras to another host, or lower `fps:`; watch for `late`")
    return good("cores", text)


def _memory(config: Config | None) -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _group_limit()
    have = min(total, limit) / _GB
    text = f"{have:.1f} GB" + (" (a limit of this container or service)" if limit < total else "")
    if config is None:
        return good("memory", text)
    buffers = sum(line.buffer_mb for line in config.lines) * 2**20 / _GB
    need = buffers + _WORKER_GB * len(config.workers) + 1
    text += f"; about {need:.1f} GB wanted, {buffers:.1f} of it for the cameras' buffers"
    if need > have:
        return note("memory", text, "lower `buffer_mb:` of the lines, or run fewer workers here")
    return good("memory", text)


def _group_limit() -> float:
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return float("inf")  # no cgroup of version 2: no limit that could be read
    return float("inf") if text == "max" else float(text)


def _open_files(config: Config | None) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FEW_FILES if config is None else max(_FEW_FILES, 256 + 32 * len(config.lines))
    text = f"{soft} at once (hard limit {hard})"
    if soft < wanted:
        mend = f"ulimit -n {wanted}, or LimitNOFILE= of the systemd unit (ours has 65536)"
        return (bad if soft < _FEW_FILES // 4 else note)("open files", text, mend)
    return good("open files", text)


def _disk(config: Config | None, folder: Path) -> Finding:
    there = existing(folder)
    free_gb = shutil.disk_usage(there).free / _GB
    text = f"{free_gb:.1f} GB free at {there}"
    if config is None:
        if free_gb < _LOW_DISK_GB:
            mend = f"make room: evidence needs up to `retention.max_gb`, aim for {_LOW_DISK_GB:.0f} GB"
            return note("disk", text, mend)
        return good("disk", text)
    floor, cap = config.retention.min_free_gb, config.retention.max_gb
    if free_gb < floor:
        mend = "make room on it, or lower `retention.min_free_gb`: no picture is kept as it is"
        return bad("disk", f"{text}, less than retention.min_free_gb {floor:g}", mend)
    if free_gb < floor + cap:
        mend = "pictures go when it fills up; make room, or lower `retention.max_gb`"
        return note("disk", f"{text}; retention.max_gb {cap:g} and min_free_gb {floor:g} want more", mend)
    return good("disk", text)


def _sync(folder: Path) -> Finding:
    """How long a small write takes until it is safe: Redis does one for each batch of verdicts."""
    there = existing(folder)
    took = []
    try:
        with tempfile.NamedTemporaryFile(dir=there) as probe:
            for _ in range(_SYNCS):
                probe.write(bytes(4096))
                began = time.perf_counter()
                probe.flush()
                os.fsync(probe.fileno())
                took.append(1000 * (time.perf_counter() - began))
    except OSError as error:
        return bad("data", f"{there} cannot be written: {error.strerror}", f"chown it to this user: {_user()}")
    median, worst = statistics.median(took), max(took)
    text = f"{there} can be written; {median:.1f} ms to sync 4 KB (worst of {_SYNCS}: {worst:.1f} ms)"
    if median > _SLOW_SYNC_MS:
        mend = "each batch of verdicts waits for one: put `data:` on an SSD, not on a network disk"
        return note("data", text, mend)
    return good("data", text)


def _user() -> str:
    return f"uid {os.getuid()}"


def _scratch() -> Iterator[Finding]:
    for subject, folder in (("temporary files", Path(tempfile.gettempdir())), ("shared memory", Path("/dev/shm"))):  # noqa: S108 - looked at
        if not folder.exists():
            yield note(subject, f"{folder} is not there", "only training with several loaders needs it")
            continue
        free_gb = shutil.disk_usage(folder).free / _GB
        text = f"{free_gb:.1f} GB free at {folder}"
        writable = os.access(folder, os.W_OK | os.X_OK)
        if not writable:
            yield bad(subject, f"{folder} cannot be written", f"chmod 1777 {folder}, or set TMPDIR")
        elif free_gb < _LOW_SCRATCH_GB:
            yield note(subject, text, "make room; of a container: --shm-size, or a larger tmpfs")
        else:
            yield good(subject, text)


def _clock() -> Finding:
    now = time.time()
    if now < _BUILT_S:
        return bad("clock", f"says {time.strftime('%Y-%m-%d', time.gmtime(now))}", "set the clock, run an NTP client")
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if sys.platform != "linux":
        return good("clock", text)
    # struct timex starts with `modes`; all zero asks without changing anything.
    answer = ctypes.create_string_buffer(512)
    state = ctypes.CDLL(None).adjtimex(answer)
    if state == _NOT_SYNCHRONISED:
        mend = "run an NTP client: systemctl enable --now systemd-timesyncd, or chrony"
        return note("clock", f"{text}, not synchronised: times of alerts and latencies across hosts may be off", mend)
    error_us = struct.unpack_from("@l", answer, 4 * struct.calcsize("@l"))[0]  # esterror, the fifth word
    return good("clock", f"{text}, synchronised (estimated error {error_us / 1000:.1f} ms)")


def _zone(config: Config | None) -> Finding:
    now = datetime.now().astimezone()
    text = f"{now.tzname()}, {now:%z}; logs are in UTC, the page in its reader's time"
    if config is not None and config.shifts:
        text += f"; shifts begin at {', '.join(f'{at:%H:%M}' for at in config.shifts)} of this zone"
        if not now.utcoffset() and os.environ.get("TZ", "").upper() not in ("UTC", "ETC/UTC"):
            mend = "if the plant's clocks say otherwise: timedatectl set-timezone Area/City (container: TZ=)"
            return note("time zone", text, mend)
    return good("time zone", text)
