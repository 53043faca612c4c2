"""The plant under test: `linewatch up` with two workers and two cameras, and a third camera on another host.

Everything lies in one folder; whoever is killed is started again the way an init system would.
"""

import json
import mmap
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import cv2

from inference.training.fit import fit_model
from inference.training.recipe import recipe
from ingest.preprocess import Preprocessing
from linewatch.config import Config, load
from storage.errors import StorageError
from storage.history import Counts, History
from storage.lines import Lines
from storage.records import AlertKind
from storage.server import connect
from storage.verdicts import VerdictStream
from tests.chaos import camera, host
from tests.chaos.books import Books, newest_entries, read_ledgers
from tests.chaos.inside import Inside
from tests.chaos.observer import Observer
from tests.chaos.webhook import Webhook

LOCAL, LATEST, REMOTE = "belt", "press", "dock"
WORKERS = ("w0", "w1")
MODEL_SIZE = (64, 64)
"""What the model wants to see."""
_PORT = 5733
_RESPAWN_S = 0.5
_REDIS_MB, _EVIDENCE_MB = 256, 256
_REPO = Path(__file__).parents[2]
_CONFIG = """
site: chaos
data: {data}
retention: {{max_gb: 0.15, min_free_gb: 0.005}}
workers:
{workers}
lines:
{lines}
alerts:
  page: null
  sinks: [{{url: "{sink}", timeout: 1s}}]
"""
_WORKER = "  - {{name: {name}, device: cpu, threads: 1, max_batch: 8{bind}}}"
_LINE = """
  - id: {line}
    source: "chaos:{ledgers}?line={line}"
    policy: {policy}
    deadline_ms: 4000
    model: plate
    false_alarms: 1 in 300
    alert: {{raise: 1 of 1, clear_after: 500ms, unknown_streak: 1, drift: 0}}
"""


class Plant:
    """Start it, hurt it, stop it, and read its books."""

    def __init__(self, folder: Path, *, log: Path) -> None:
        self.folder, self.ledgers, self._log = folder, folder / "ledgers", log
        self._closing = ExitStack()
        self.left_out: list[str] = []
        """Kinds of faults that this machine does not allow."""
        self.blind: list[tuple[int, int]] = []
        self.other: host.OtherHost | None = None
        self._clock: mmap.mmap | None = None
        self._ending = threading.Event()
        self._up: subprocess.Popen[bytes] | None = None
        self._edge: subprocess.Popen[bytes] | None = None
        self.edge_ended = False

    def prepare(self) -> None:
        """Disks, host, clock, model, configuration."""
        data = self.folder / "data"
        data.mkdir(mode=0o700, parents=True)
        self.ledgers.mkdir(mode=0o700)
        if host.may_mount():
            self._closing.enter_context(host.small_disk(data / "redis", mb=_REDIS_MB))
            self._closing.enter_context(host.small_disk(data / "evidence", mb=_EVIDENCE_MB))
        else:
            self.left_out += ["redis disk full", "evidence disk full"]
        if host.may_split():
            self.other = host.OtherHost()
            self._closing.callback(self.other.close)
        else:
            self.left_out += ["network cut", "stranger"]
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(self._plugin()), str(_REPO))),
            "LINEWATCH_LOG": "json",
            "LINEWATCH_LOG_LEVEL": "info",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        if host.may_step():
            offset = self.folder / "clock"
            offset.write_bytes(struct.pack("<q", 0))
            with offset.open("r+b") as file:
                self._clock = mmap.mmap(file.fileno(), 8)
            self._environment |= {"LD_PRELOAD": str(host.build_clock(self.folder)), "CHAOS_CLOCK": str(offset)}
        else:
            self.left_out += ["clock step"]
        self.webhook = Webhook(lambda evidence: (data / "evidence" / evidence / "frame.jpg").is_file())
        self._closing.callback(self.webhook.close)
        self._configure()
        self.model = self._learn(data / "models" / "plate")

    def _plugin(self) -> Path:
        """A folder that makes our camera an installed one."""
        info = self.folder / "plugin" / "chaos_camera-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chaos-camera\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[linewatch.sources]\nchaos = tests.chaos.camera:ChaosCamera\n")
        return info.parent

    def _configure(self) -> None:
        names = [(LOCAL, "every"), (LATEST, "latest")] + ([(REMOTE, "every")] if self.other else [])
        self.lines = [name for name, _ in names]
        workers = "\n".join(
            _WORKER.format(name=name, bind=f', bind: "tcp://{self.other.address}:{port}"' if self.other else "")
            for port, name in enumerate(WORKERS, _PORT)
        )
        blocks = [
            _LINE.format(line=name, policy=policy, ledgers=self.ledgers) + ("    remote: true\n" * (name == REMOTE))
            for name, policy in names
        ]
        self.path = self.folder / "linewatch.yaml"
        told = {"data": "data", "workers": workers}
        self.path.write_text(_CONFIG.format(**told, lines="".join(blocks), sink=self.webhook.url))
        self.config: Config = load(self.path)
        self.inside = Inside(self.config.storage)
        if self.other:
            edge = self.folder / "edge"
            (edge / "data").mkdir(mode=0o700, parents=True)
            (self.config.data / "keys").mkdir(mode=0o700)
            (edge / "data" / "keys").symlink_to(self.config.data / "keys")
            (edge / "linewatch.yaml").write_text(_CONFIG.format(**told, lines=blocks[-1], sink="log:"))

    def _learn(self, out: Path) -> str:
        """Fit and calibrate on the cameras' own good pictures; the name of the model in verdicts."""
        data = self.folder / "good"
        for part, count, boot in (("train", 24, 900_001), ("calibration", 400, 900_002)):
            (data / part / "good").mkdir(parents=True)
            for number in range(count):
                size = camera.OTHER_SIZE if number % 4 == 0 else camera.SIZE
                draw = next(n for n in range(number * 40, 10**9) if not camera.defective(boot, n))
                cv2.imwrite(str(data / part / "good" / f"{number:04}.png"), camera.paint(boot, draw, size=size))
        made = recipe(
            "padim", {"dimensions": 20}, preprocessing=Preprocessing(size=MODEL_SIZE), weights="random", device="cpu"
        )
        bundle = fit_model(made, str(data), out)
        bundle.set_calibration((bundle.calibration() or {}) | {"scene": None})  # cameras here are hurt on purpose
        return bundle.ref

    # life

    def start(self) -> None:
        """Start everything, and begin to observe."""
        threading.Thread(target=self._keep_up, name="init", daemon=True).start()
        if self.other is not None:
            threading.Thread(target=self._keep_edge, name="init of the other host", daemon=True).start()
        self.observer = Observer(self.config.storage, self.ledgers, self.lines)

    def _keep_up(self) -> None:
        command = [sys.executable, "-P", "-m", "linewatch", "up", str(self.path)]
        while not self._ending.is_set():
            self._up = self._spawn(command)
            self._up.wait()
            self._ending.wait(_RESPAWN_S)

    def _keep_edge(self) -> None:
        assert self.other is not None
        command = [sys.executable, "-P", "-m", "linewatch", "capture", str(self.folder / "edge" / "linewatch.yaml")]
        command = self.other.command([*command, "--line", REMOTE])
        while not self._ending.is_set():
            self._edge = self._spawn(command)
            if self._edge.wait() == 0 and not self._ending.is_set() and self._told_to_end():
                self.edge_ended = True
                return
            self._ending.wait(_RESPAWN_S)

    def _told_to_end(self) -> bool:
        orders = self.ledgers / f"{REMOTE}.orders"
        return orders.exists() and orders.read_text() == camera.END

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def pids(self) -> dict[str, int]:
        """Process ids by role, as far as they run; `up` and the far capture included."""
        found: dict[str, int] = {}
        try:
            status = json.loads((self.config.data / "up.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            status = {"roles": []}
        for role in status["roles"]:
            if role["pid"] is not None:
                found[role["role"]] = role["pid"]
        if status.get("redis", {}).get("pid"):
            found["redis"] = status["redis"]["pid"]
        for name, process in (("up", self._up), (f"capture {REMOTE}", self._edge)):
            if process is not None and process.poll() is None:
                found[name] = process.pid
        return {name: pid for name, pid in found.items() if _runs(pid)}

    def signal(self, role: str, number: signal.Signals) -> int | None:
        """Send a signal to a role; its process id, or None when it does not run."""
        pid = self.pids().get(role)
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return None
        return pid

    @property
    def clock_ns(self) -> int:
        """How far the wall clock of all processes is from true time."""
        assert self._clock is not None
        return int(struct.unpack_from("<q", self._clock, 0)[0])

    def step_clock(self, offset_ns: int) -> None:
        """Set the wall clock of all processes to true time plus `offset_ns`."""
        assert self._clock is not None
        struct.pack_into("<q", self._clock, 0, offset_ns)

    def order(self, line: str, orders: str) -> None:
        """Tell a line's camera what to do."""
        camera.order(self.ledgers, line, orders)

    def obeyed(self, line: str, orders: str, *, patience_s: float = 3.0) -> bool:
        """Whether a line's camera does what it was told, within `patience_s`."""
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            told = [entry["obeys"] for entry in newest_entries(self.ledgers, line) if "obeys" in entry]
            if told[-1:] == [orders]:
                return True
            time.sleep(0.02)
        return False

    def pictures(self, line: str) -> int:
        """How many pictures a line's camera has sent since it was last opened."""
        return sum("n" in entry for entry in newest_entries(self.ledgers, line))

    def await_well(self, *, since_ns: int, patience_s: float) -> float | None:
        """Seconds after `since_ns` (monotonic) at which all was well again; None: not within `patience_s`."""
        while time.monotonic_ns() - since_ns < patience_s * 1e9:
            if self.observer.well_since(since_ns):
                return (time.monotonic_ns() - since_ns) / 1e9
            time.sleep(0.02)
        return None

    def ailing(self, since_ns: int) -> str:
        """What is not well since a moment (monotonic), for people."""
        return self.observer.ailing(since_ns)

    # end

    def finish(self, *, patience_s: float = 180.0) -> Books:
        """Let all cameras end, wait until everything is accounted for, stop, and read the books.

        The frames of a run that nobody will end are closed once it has stood still for a minute.
        """
        for line in self.lines:
            self.order(line, camera.END)
        client = connect(self.config.storage)
        history = History(self.config.storage)
        until = time.monotonic() + patience_s
        while time.monotonic() < until and not self._settled(Lines(client), VerdictStream(client), history):
            time.sleep(0.2)
        time.sleep(1.0)
        states = {state.line: state for state in Lines(client).states()}
        self._ending.set()
        if self._up is not None:
            self._up.terminate()
            self._up.wait(60)
        if self._edge is not None and self._edge.poll() is None:
            self._edge.terminate()
            self._edge.wait(60)
        self.observer.close()
        counted = {}
        for line in self.lines:
            minutes = history.minutes(line, since=0, until=2**40).values()
            counted[line] = Counts(
                sum(m.passed for m in minutes), sum(m.rejected for m in minutes), sum(m.unknown for m in minutes)
            )
        alerts = history.alerts(limit=10_000_000)
        history.close()
        return Books(
            sent={line: list(read_ledgers(self.ledgers, line)) for line in self.lines},
            verdicts=self.observer.verdicts,
            states=states,
            counted=counted,
            alerts=alerts,
            told=list(self.webhook.told),
            latest=frozenset({LATEST}),
            models=dict.fromkeys(self.lines, self.model),
            blind=self.blind,
        )

    def _settled(self, lines: Lines, stream: VerdictStream, history: History) -> bool:
        try:
            roles = self.pids()
            ended = not any(f"capture {line}" in roles for line in self.lines)
            states = lines.states()
            newest = stream.latest(1)
            read = bool(newest) and history.position() == newest[0][0] and self.observer.caught_up(newest[0][0])
            told = not history.undelivered()
            # A defect that is over is cleared a moment later, and that is told too.
            over = not any(alert.kind is AlertKind.DEFECT for alert in history.alerts(open=True))
            return ended and read and over and told and all(state.open == 0 for state in states)
        except StorageError:
            return False

    def close(self) -> None:
        """Kill what still runs and remove every trace."""
        self._ending.set()
        for process in (self._up, self._edge):
            if process is not None and process.poll() is None:
                process.kill()
        for pid in self.pids().values():
            os.kill(pid, signal.SIGKILL)
        self._closing.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
