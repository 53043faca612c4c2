"""What can be done to the plant: each fault strikes, holds for a while, and is healed.

A strike that hits nothing (who should be killed does not run, the clock is to be set to what it says already) says so
by giving None, and leaves the plant as it was.
"""

import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import camera
from tests.chaos.journals import litter, tear
from tests.chaos.plant import LOCAL, MODEL_SIZE, REMOTE, WORKERS, Plant
from tests.chaos.stranger import babble, knock

Heal = Callable[[], None]
Strike = Callable[[Plant, random.Random], Heal | None]
_BLIND_MARGIN_NS = 12_000_000_000
"""A picture captured this long before the disk filled up may have been judged only then."""
_MET_S = 10.0
"""Within this time some alert is told, or a worker's count of strangers is."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: for people.
        strike: does it, and gives what heals it (for what is over at once: nothing to do); None: it hit nothing.
        hold: bounds on how long it lasts, seconds.
        weight: how often in a round of all kinds.
    """

    name: str
    strike: Strike
    hold: tuple[float, float] = (0.0, 0.0)
    weight: float = 1.0


def _nothing() -> None:
    """What is over at once needs no healing."""


def _captures(plant: Plant) -> list[str]:
    return [f"capture {line}" for line in plant.lines]


def _send(number: signal.Signals, *roles: str) -> Strike:
    def strike(plant: Plant, draw: random.Random) -> Heal | None:
        pid = plant.signal(draw.choice(roles or _captures(plant)), number)
        return None if pid is None else _nothing

    return strike


def _kill(*roles: str) -> Strike:
    return _send(signal.SIGKILL, *roles)


def _end(*roles: str) -> Strike:
    return _send(signal.SIGTERM, *roles)


def _kill_all(plant: Plant, _draw: random.Random) -> Heal | None:
    """As a power cut takes them, but for what the kernel had not written yet."""
    if plant.signal("up", signal.SIGKILL) is None:
        return None
    for role in plant.pids():
        plant.signal(role, signal.SIGKILL)
    return _nothing


def _pause(*roles: str) -> Strike:
    def strike(plant: Plant, draw: random.Random) -> Heal | None:
        role = draw.choice(roles or _captures(plant))
        pid = plant.signal(role, signal.SIGSTOP)

        def heal() -> None:
            if plant.pids().get(role) == pid:
                plant.signal(role, signal.SIGCONT)

        return None if pid is None else heal

    return strike


def _hang(plant: Plant, draw: random.Random) -> Heal | None:
    """A process that never moves again: only the supervisor's watch on progress ends it."""
    pid = plant.signal(draw.choice((*_WORKERS, f"capture {LOCAL}", "alerts", "redis")), signal.SIGSTOP)
    return None if pid is None else _nothing


@dataclass(slots=True)
class _Stutter:
    """Lets a process run a fifth of the time."""

    plant: Plant
    role: str
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.plant.signal(self.role, signal.SIGSTOP)
            self._stop.wait(0.08)
            self.plant.signal(self.role, signal.SIGCONT)
            self._stop.wait(0.02)

    def heal(self) -> None:
        self._stop.set()
        self._thread.join()
        self.plant.signal(self.role, signal.SIGCONT)


def _slow(plant: Plant, draw: random.Random) -> Heal | None:
    role = draw.choice(_WORKERS)
    return _Stutter(plant, role).heal if role in plant.pids() else None


def _fill(folder: str, *writers: str) -> Strike:
    def strike(plant: Plant, _draw: random.Random) -> Heal | None:
        if not plant.pids().keys() & {*writers}:
            return None
        ballast = plant.config.data / folder / "ballast"
        began_ns = time.monotonic_ns()
        _write_until_full(ballast)

        def heal() -> None:
            ballast.unlink(missing_ok=True)
            if folder == "evidence":
                plant.blind.append((began_ns - _BLIND_MARGIN_NS, time.monotonic_ns()))

        return heal

    return strike


def _write_until_full(path: Path) -> None:
    for size in (2**20, 2**12, 1):
        with path.open("ab", buffering=0) as file:
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


def _lock(plant: Plant, _draw: random.Random) -> Heal | None:
    if "alerts" not in plant.pids():
        return None
    connection = sqlite3.connect(plant.config.data / "history.db", timeout=20, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")

    def heal() -> None:
        connection.execute("ROLLBACK")
        connection.close()

    return heal


def _step(plant: Plant, draw: random.Random) -> Heal | None:
    """Steps of all sizes, and back to true time."""
    size_s = draw.choice((0.0, 0.0, draw.uniform(-3, 3), draw.uniform(-60, 60), draw.uniform(-7200, 7200)))
    size_ns = round(size_s * 1e9)
    if size_ns == plant.clock_ns or not plant.pids():
        return None
    plant.step_clock(size_ns)
    return _nothing


def _cut(plant: Plant, _draw: random.Random) -> Heal | None:
    if plant.other is None or f"capture {REMOTE}" not in plant.pids():
        return None
    plant.other.pull_cable()
    return plant.other.plug_cable


def _camera(orders: str) -> Strike:
    def strike(plant: Plant, draw: random.Random) -> Heal | None:
        line = draw.choice(plant.lines)
        plant.order(line, orders)
        if plant.obeyed(line, orders):
            return lambda: plant.order(line, camera.OK)
        plant.order(line, camera.OK)
        return None

    return strike


def _sink(mood: str) -> Strike:
    def strike(plant: Plant, _draw: random.Random) -> Heal | None:
        def heal() -> None:
            plant.webhook.mood = "ok"

        before = plant.webhook.met
        plant.webhook.mood = mood
        if _comes(lambda: plant.webhook.met > before):
            return heal
        heal()
        return None

    return strike


def _comes(happened: Callable[[], bool]) -> bool:
    """Whether something happens within `_MET_S`."""
    until = time.monotonic() + _MET_S
    while not happened():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _babble(plant: Plant, draw: random.Random) -> Heal | None:
    place, keys = draw.choice(plant.config.endpoints()), plant.config.data / "keys"
    return _nothing if babble(place, keys, lines=plant.lines, draw=draw, count=200) else None


def _knock(plant: Plant, draw: random.Random) -> Heal | None:
    """It has hit once the worker says that it turned strangers away."""
    worker, endpoint = draw.choice([*zip(WORKERS, plant.config.endpoints(), strict=True)])
    before = plant.inside.strangers(worker)
    if before is None:
        return None
    knock(endpoint, plant.config.data / "keys", lines=plant.lines, size=MODEL_SIZE, draw=draw, count=50)

    def counted() -> bool:
        now = plant.inside.strangers(worker)
        return now is not None and now[0] == before[0] and now[1] > before[1]

    return _nothing if _comes(counted) else None


_WORKERS = tuple(f"worker {name}" for name in WORKERS)

FAULTS = (
    Fault("kill worker", _kill(*_WORKERS)),
    Fault("kill capture", _kill()),
    Fault("kill alerts", _kill("alerts")),
    Fault("kill redis", _kill("redis")),
    Fault("kill supervisor", _kill("up"), weight=0.5),
    Fault("kill all", _kill_all, weight=0.5),
    Fault("end worker", _end(*_WORKERS)),
    Fault("end alerts", _end("alerts")),
    Fault("restart redis", _end("redis")),
    Fault("restart all", _end("up"), weight=0.5),
    Fault("pause worker", _pause(*_WORKERS), hold=(0.5, 6.0)),
    Fault("pause capture", _pause(), hold=(0.5, 6.0)),
    Fault("pause alerts", _pause("alerts"), hold=(0.5, 6.0)),
    Fault("pause redis", _pause("redis"), hold=(0.5, 4.0)),
    Fault("hang", _hang, weight=0.2),
    Fault("slow worker", _slow, hold=(1.0, 4.0)),
    Fault("redis disk full", _fill("redis", "redis"), hold=(0.5, 3.0)),
    Fault("evidence disk full", _fill("evidence", *_WORKERS), hold=(0.5, 3.0)),
    Fault("history locked", _lock, hold=(0.5, 7.0)),
    Fault("clock step", _step),
    Fault("network cut", _cut, hold=(0.5, 5.0)),
    Fault("camera stalls", _camera(camera.STALL), hold=(0.5, 4.0)),
    Fault("camera gone", _camera(camera.GONE), hold=(0.2, 3.0)),
    Fault("camera resized", _camera(camera.RESIZED), hold=(0.5, 2.0)),
    Fault("camera frozen", _camera(camera.FROZEN), hold=(2.0, 4.0)),
    Fault("camera dark", _camera(camera.DARK), hold=(0.5, 2.0)),
    Fault("sink slow", _sink("slow"), hold=(2.0, 4.0)),
    Fault("sink down", _sink("down"), hold=(0.5, 4.0)),
    Fault("corrupt messages", _babble),
    Fault("stranger", _knock),
    Fault("strange journals", litter),
    Fault("torn journal", tear),
)
