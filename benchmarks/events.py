"""Events, not frames: what lines say about two recordings, and about the same cameras when somebody tampers with them.

Fits PaDiM on the quiet first part of each video, replays all of it, and lists the events. Then replays the quiet part,
over and over, with a knocked camera, another light, a frozen feed and the like set in after four seconds: each must
raise the alert of its own kind within two seconds, and none may raise a defect. Prints Markdown; `--html DIR` writes
the reports with pictures: `python benchmarks/events.py --html var/events`.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import structlog
import yaml

from alerts.config import AlertRules
from alerts.report.pictures import inlined
from alerts.report.render import render
from inference.config import JudgeConfig
from inference.engine import Engine
from inference.false_alarms import parse_false_alarms
from inference.training.fit import fit_model
from inference.training.recipe import recipe
from ingest.config import CaptureConfig
from ingest.frame import Picture
from ingest.preprocess import Preprocessing
from ingest.sources import open_source
from linewatch.replay import BEGIN_NS, Replay, Replayed

ASKED = "1 per 8h"
WITHIN_S = 2.0
TAMPERED_S = 4.0  # after the beginning, and for as long


@dataclass(frozen=True)
class Video:
    """One recording: frames of its quiet first part, and what a line engineer would write for it."""

    file: str
    quiet: int
    alert: str
    passages: tuple[tuple[int, int], ...] = ()
    """First and last frame of each person's visit, marked by eye; none: things are moved about and stay moved."""


VIDEOS = (
    Video("bottle-detection.mp4", 150, "{clear_after: 1s, min_area: 13%}"),
    Video(
        "one-by-one-person-detection.mp4",
        50,
        "{clear_after: 1s, min_area: 10%}",
        ((58, 208), (222, 460), (500, 704), (738, 878), (920, 1200), (1228, 1342)),
    ),
)

Tamper = Callable[[Picture, int, float], Picture]
"""Called with a picture, how many there were since the tampering began, and pictures a second."""


def gain(factor: float) -> Tamper:
    """Multiply all pixels."""
    return lambda picture, _n, _fps: np.asarray(cv2.convertScaleAbs(picture, alpha=factor), np.uint8)


def bump(x: float, y: float, degrees: float = 0.0) -> Tamper:
    """Turn the camera a little: pixels at full resolution."""

    def moved(picture: Picture, _n: int, _fps: float) -> Picture:
        height, width = picture.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        matrix[:, 2] += (x, y)
        return np.asarray(cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)

    return moved


def cloud(picture: Picture, n: int, fps: float) -> Picture:
    """Darken to half within two seconds, and brighten again."""
    depth = 0.5 * np.sin(np.pi * min(1.0, n / fps / TAMPERED_S))
    return np.asarray(cv2.convertScaleAbs(picture, alpha=1 - depth), np.uint8)


def flicker(every: int) -> Tamper:
    """A lamp that fails: some frames are a third darker."""

    def flickers(picture: Picture, n: int, _fps: float) -> Picture:
        return picture if n % every else np.asarray(cv2.convertScaleAbs(picture, alpha=0.67), np.uint8)

    return flickers


def blur(picture: Picture, _n: int, _fps: float) -> Picture:
    """Out of focus."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), picture.shape[1] / 120), np.uint8)


def cover(picture: Picture, _n: int, _fps: float) -> Picture:
    """Something large before the lens."""
    covered = picture.copy()
    covered[:, : int(picture.shape[1] * 0.8)] = (90, 100, 110)
    return covered


def frozen() -> Tamper:
    """The same picture again and again."""
    first: list[Picture] = []

    def same(picture: Picture, n: int, _fps: float) -> Picture:
        if n == 0:
            first[:] = [picture]
        return first[0]

    return same


TAMPERS: dict[str, tuple[Tamper, tuple[str, ...] | None]] = {
    "nothing": (lambda picture, _n, _fps: picture, ()),
    "bump, 12 px right and 6 px down": (bump(12, 6), ("camera_moved",)),
    "bump, 5 px": (bump(5, 0), ("camera_moved",)),
    "bump, 2 degrees": (bump(4, 3, 2), ("camera_moved",)),
    "gain 1.5": (gain(1.5), ("camera_light", "camera_overexposed")),
    "gain 1.25": (gain(1.25), ("camera_light", "camera_overexposed")),
    "gain 0.8": (gain(0.8), ("camera_light",)),
    "gain 0.6": (gain(0.6), ("camera_light",)),
    "gain 1.1": (gain(1.1), None),
    "gain 0.9": (gain(0.9), None),
    "a passing cloud, down to 0.5": (cloud, ("camera_light",)),
    "flicker, every other frame 0.67": (flicker(2), ("camera_light",)),
    "flicker, every tenth frame 0.67": (flicker(10), ()),
    "frozen feed": (frozen(), ("camera_frozen",)),
    "no light": (gain(0.01), ("camera_dark",)),
    "out of focus": (blur, ("camera_blurred",)),
    "covered to four fifths": (cover, ("camera_occluded",)),
}
"""What is done to the camera, and the kinds of alert that say so. Empty: nothing is to be said. None: anything but a
defect may be; it is so little that nothing need be."""


def pictures(path: Path, *, limit: int | None = None) -> Iterator[Picture]:
    """Decode a video."""
    source = open_source(f"{path}?rate=max")
    try:
        while (grab := source.grab()) is not None and limit != 0:
            if grab.picture is not None:
                yield grab.picture
            limit = None if limit is None else limit - 1
    finally:
        source.close()


def quiet_with(tamper: Tamper, quiet: list[Picture], fps: float) -> Iterator[Picture]:
    """The quiet part to and fro, tampered with for some seconds in the middle of it."""
    begin, end = round(TAMPERED_S * fps), round(2 * TAMPERED_S * fps)
    to_and_fro = itertools.cycle([*range(len(quiet)), *range(len(quiet) - 2, 0, -1)])
    for number, place in enumerate(itertools.islice(to_and_fro, round(3 * TAMPERED_S * fps))):
        picture = quiet[place]
        yield tamper(picture, number - begin, fps) if begin <= number < end else picture


def seconds(wall_ns: int | None) -> str:
    """Time since the beginning of the recording."""
    return "open at the end" if wall_ns is None else f"{(wall_ns - BEGIN_NS) / 1e9:.1f} s"


def events_table(found: Replayed) -> str:
    """Alerts as Markdown."""
    lines = [
        "| kind | start | raised | end | frames | worst score / threshold | largest region |",
        "|---|---|---|---|---|---|---|",
    ]
    for alert in found.line.alerts:
        score = "" if alert.worst_score is None else f"{alert.worst_score:.1f} / {alert.threshold:.1f}"
        start, raised = seconds(alert.started_ns), seconds(alert.raised_ns)
        end = seconds(alert.ended_ns) if alert.cleared_ns else "open at the end"
        pictured = "yes" if (alert.worst_evidence or alert.evidence) in found.pictures else "no"
        lines.append(f"| {alert.kind} | {start} | {raised} | {end} | {alert.count} | {score} | {pictured} |")
    return "\n".join(lines).replace("largest region", "picture")


def write(found: Replayed, file: Path, site: str) -> None:
    """Write the report with pictures."""
    file.parent.mkdir(parents=True, exist_ok=True)
    count = max(1, len(found.line.events))
    report = found.report(site=site, made_ns=time.time_ns())
    file.write_text(render(report, pictures=inlined(found.pictures.get, count=count), count=count), encoding="utf-8")


def visits(video: Video, found: Replayed, fps: float) -> str:
    """How many of the marked passages are one event each."""
    spans = [
        ((a.started_ns or a.raised_ns) - BEGIN_NS, (a.ended_ns or a.raised_ns) - BEGIN_NS) for a in found.line.events
    ]
    touched = [
        [i for i, (start, end) in enumerate(spans) if start <= last / fps * 1e9 and end >= first / fps * 1e9]
        for first, last in video.passages
    ]
    alone = sum(len(events) == 1 for events in touched)
    strangers = len(spans) - len({i for events in touched for i in events})
    none = touched.count([])
    return f"{len(touched)} visits: {alone} are one event each, {none} have none; {strangers} events are no visit"


def measure(video: Video, path: Path, folder: Path, *, weights: str, html: Path | None) -> int:
    """Fit, replay and tamper; how much was not as it must be."""
    name, source = path.stem, open_source(f"{path}?rate=max")
    fps = source.fps or 0.0
    source.close()
    made = recipe("padim", {}, preprocessing=Preprocessing(size=(256, 256)), weights=weights)
    engine = Engine(fit_model(made, f"{path}?rate=max", folder / name, limit=video.quiet))
    judge = JudgeConfig(line=name, model=name, false_alarms=parse_false_alarms(ASKED), fps=fps)
    capture = CaptureConfig(id=name, source=str(path))
    rules = AlertRules.model_validate(yaml.safe_load(video.alert))

    def replay(shown: Iterator[Picture]) -> Replayed:
        return Replay(capture, judge, rules, engine=engine, fps=fps).run(shown)

    found = replay(pictures(path))
    print(f"\n### {name}: {found.frames} frames, {found.seconds:.1f} s, fitted on the first {video.quiet}\n")
    print(f"`false_alarms: {ASKED}`, `alert: {video.alert}`\n\n{events_table(found)}\n", flush=True)
    if video.passages:
        print(visits(video, found, fps))
    if html is not None:
        write(found, html / f"{name}.html", name)
    quiet = list(pictures(path, limit=video.quiet))
    print("\n| tampered with for 4 s | alerts raised, seconds after it began | defects |\n|---|---|---|")
    failed = 0
    for what, (tamper, kinds) in TAMPERS.items():
        said = replay(quiet_with(tamper, quiet, fps))
        began_ns = BEGIN_NS + round(TAMPERED_S * 1e9)
        raised = [(a.kind.value, (a.raised_ns - began_ns) / 1e9) for a in said.line.alerts]
        defects = sum(kind == "defect" for kind, _ in raised)
        in_time = any(kind in (kinds or ()) and 0 <= after <= WITHIN_S for kind, after in raised)
        as_it_must_be = kinds is None or (in_time if kinds else not raised)
        bad = defects > 0 or not as_it_must_be
        failed += bad
        told = ", ".join(f"{kind} {after:.2f}" for kind, after in raised) or "none"
        print(f"| {what} | {told}{' **not as it must be**' if bad else ''} | {defects} |", flush=True)
    return failed


def main() -> int:
    """Measure both videos."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", default="../shared/weights/resnet18-imagenet-layer1to3.safetensors")
    parser.add_argument("--html", type=Path, help="write reports with pictures here")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for video in VIDEOS:
            path = options.root / "video" / video.file
            failed += measure(video, path, Path(folder), weights=options.weights, html=options.html)
    print(f"\n{failed} of {len(TAMPERS) * len(VIDEOS)} not as they must be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
