"""`linewatch demo`: the whole system on a synthetic factory, with defects whose truth is known.

Learns a belt and a yard from good frames, writes the configuration a person would write, runs it like `linewatch up`,
and at the end holds the alerts against what was injected and the verdicts against what was captured.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from inference.training.calibrate import calibrate
from inference.training.fit import fit_model
from inference.training.recipe import recipe
from ingest.preprocess import Preprocessing
from ingest.sources.synthetic import open_scene
from linewatch.commands.progress import progress_bar
from linewatch.config import Config, load
from linewatch.launch import launch
from storage.history import History
from storage.lines import Lines
from storage.records import Alert, AlertKind, LineState, Status, Verdict
from storage.server import RedisServer, connect
from storage.verdicts import VerdictStream

FPS = 4.0
IMAGE_SIZE = 128
"""Pixels: what two lines cost on an old laptop without anyone noticing."""
GOOD_FRAMES = 240
"""Learned from, every fourth frame of a stretch long enough to see the light change."""
CALIBRATION_FRAMES = 300
_EVERY = 4
_DEFAULT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Scene:
    """One line of the demo.

    Attributes:
        line: its name, and that of its model.
        kind: which synthetic scene.
        every: frames between two injected events.
        alert: its rule, as in linewatch.yaml.
    """

    line: str
    kind: str
    every: int
    alert: str

    def watched(self, frames: int) -> str:
        """What the camera shows; 0 frames: without end."""
        return f"synthetic:{self.kind}?fps={FPS:g}&seed=7&defect_every={self.every}&frames={frames}"

    @property
    def good(self) -> str:
        """What is learned from: the same scene on another day, with nothing wrong."""
        return self._day(1, GOOD_FRAMES * _EVERY)

    @property
    def also_good(self) -> str:
        """What is calibrated on: a third day, at the rate that is judged."""
        return self._day(2, CALIBRATION_FRAMES)

    def _day(self, seed: int, frames: int) -> str:
        return f"synthetic:{self.kind}?fps={FPS:g}&rate=max&seed={seed}&defect_every=0&frames={frames}"


SCENES = (
    # Good parts differ in a twentieth of the picture at most, spoiled ones in a seventh and more.
    Scene("belt", "belt", every=24, alert="{raise: 1 of 1, clear_after: 600ms, min_area: 8%}"),
    Scene("yard", "yard", every=60, alert="{raise: 2 of 3, clear_after: 2s}"),
)


@dataclass(frozen=True, slots=True)
class Event:
    """A stretch of frames with something injected, and whether an alert was raised for it."""

    line: str
    first: int
    last: int
    raised: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo came to."""

    states: list[LineState]
    events: list[Event]
    false_alarms: list[Alert]

    @property
    def good(self) -> bool:
        """Every injected event raised an alert, and every captured frame has its verdict."""
        something = bool(self.events) and all(state.captured for state in self.states)
        return something and all(event.raised for event in self.events) and not any(s.open for s in self.states)


def demo(seconds: float | None, headless: bool, folder: Path) -> int:
    """Run the demo.

    Args:
        seconds: how long to watch; None: until Ctrl-C (headless: 60).
        headless: end by itself, and judge itself by the exit code.
        folder: where everything is kept; what an earlier demo left in it is replaced.

    Returns:
        0; when headless, 1 if an injected event raised no alert or a frame is unaccounted for.
    """
    console = Console()
    if headless and seconds is None:
        seconds = _DEFAULT_SECONDS
    frames = 0 if seconds is None else max(1, round(seconds * FPS))
    path = write_config(folder, frames)
    config = load(path)
    console.print(f"learning two scenes from {GOOD_FRAMES} good frames each …")
    for scene in SCENES:
        learn(scene, config.storage.models / scene.line)
    console.print(f"configuration: {path}", highlight=False)
    console.print("watching" + (f" for {seconds:g} s …" if seconds else "; Ctrl-C ends and sums up …"))
    launch(path, config, until_done=seconds is not None, on_tick=_Teller(config, console))
    outcome = assess(config, frames)
    summarise(outcome, console)
    return 0 if outcome.good or not headless else 1


def write_config(folder: Path, frames: int) -> Path:
    """Write linewatch.yaml as a person would, into a fresh folder."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"  - id: {scene.line}\n"
        f"    source: {scene.watched(frames)}\n"
        f"    fps: {FPS:g}\n"
        f"    deadline_ms: 10000\n"
        f"    model: {scene.line}\n"
        f"    false_alarms: 1 in 10000\n"
        f"    alert: {scene.alert}\n"
        for scene in SCENES
    ]
    text = (
        "# Made by `linewatch demo`; `linewatch up` runs it again.\n"
        "site: demo\ndata: data\nlines:\n" + "".join(lines) + 'alerts: {page: {bind: "127.0.0.1:0"}, sinks: []}\n'
    )
    path = folder / "linewatch.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def learn(scene: Scene, out: Path) -> None:
    """Fit and calibrate PaDiM on good frames; random weights, so that nothing has to be downloaded."""
    made = recipe(
        "padim", {}, preprocessing=Preprocessing(size=(IMAGE_SIZE, IMAGE_SIZE)), weights="random", device="cpu"
    )
    with progress_bar() as report:
        bundle = fit_model(made, scene.good, out, every=_EVERY, report=report)
        calibrate(bundle, scene.also_good, device="cpu", report=report)


def assess(config: Config, frames: int) -> Outcome:
    """Hold what was said against what was injected."""
    history = History.open(config.storage)
    alerts = [alert for alert in history.alerts(limit=100_000) if alert.kind is AlertKind.DEFECT]
    history.close()
    server = RedisServer(config.data)
    server.start()
    try:
        client = connect(config.storage)
        states = Lines(client).states()
        verdicts = [verdict for _, verdict in VerdictStream(client).latest(1_000_000)]
    finally:
        server.stop()
    events, false_alarms = [], []
    for scene in SCENES:
        url = scene.watched(frames)
        seen = sorted((v for v in verdicts if v.line == scene.line), key=lambda verdict: verdict.seq)
        ours = [alert for alert in alerts if alert.line == scene.line]
        stretches = list(_stretches(url, seen))
        events += [
            Event(scene.line, stretch[0].seq, stretch[-1].seq, raised=_raised(ours, stretch)) for stretch in stretches
        ]
        false_alarms += [alert for alert in ours if not any(_open_during(alert, stretch) for stretch in stretches)]
    return Outcome(states, events, false_alarms)


def summarise(outcome: Outcome, console: Console) -> None:
    """Print what a person wants to know at the end."""
    table = Table(
        "line", "captured", "pass", "reject", "unknown", "open", "injected", "raised", "false alarms", box=None
    )
    for state in outcome.states:
        events = [event for event in outcome.events if event.line == state.line]
        wrong = sum(alert.line == state.line for alert in outcome.false_alarms)
        counts = (state.captured, state.passed, state.rejected, state.unknown, state.open)
        table.add_row(state.line, *map(str, counts), str(len(events)), str(sum(e.raised for e in events)), str(wrong))
    console.print(table)
    for event in outcome.events:
        if not event.raised:
            console.print(f"[red]missed[/]: {event.line}, frames {event.first} to {event.last}")
    if outcome.good:
        console.print("[green]every injected defect raised an alert; every frame is accounted for[/]")
    else:
        console.print("[red]not everything that was injected raised an alert, or a frame is unaccounted for[/]")


class _Teller:
    """Prints alerts as they are raised."""

    def __init__(self, config: Config, console: Console) -> None:
        self._config, self._console = config, console
        self._history: History | None = None
        self._told: set[str] = set()

    def __call__(self) -> None:
        if not (self._config.data / "page.url").exists():
            return
        self._history = self._history or History.open(self._config.storage)
        for alert in reversed(self._history.alerts(limit=20)):
            if alert.id not in self._told:
                self._told.add(alert.id)
                self._console.print(f"  [bold]{alert.line}[/]: {alert.text}", highlight=False, soft_wrap=True)


def _stretches(url: str, seen: list[Verdict]) -> Iterator[list[Verdict]]:
    """Runs of neighbouring captured frames that show something injected."""
    scene, stretch = open_scene(url), list[Verdict]()
    for verdict in seen:
        if scene.injected(verdict.seq):
            stretch.append(verdict)
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _raised(alerts: list[Alert], stretch: list[Verdict]) -> bool:
    """Whether a frame of the stretch was rejected, and an alert open because of it."""
    rejected = any(verdict.status is Status.REJECT for verdict in stretch)
    return rejected and any(_open_during(alert, stretch) for alert in alerts)


def _open_during(alert: Alert, stretch: list[Verdict]) -> bool:
    """Whether an alert was raised, or still open, while the stretch was captured."""
    first, last = stretch[0].captured_ns, stretch[-1].captured_ns
    return alert.raised_ns <= last and (alert.cleared_ns is None or alert.cleared_ns >= first)
