"""What the whole system costs beside its bare detector: throughput at full load, latency at half load.

    python benchmarks/overhead.py [--weights FILE] [--rounds 3] [--seconds 20]

One line, one worker, batches of 8. Bare and whole are measured in turn, so that a machine whose speed drifts
drifts for both; what counts is the ratio within a round.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded: as in the system, see `bare`

import cv2
import numpy as np

from inference.engine import Engine
from inference.lanes import MOST_LANES
from ingest.preprocess import prepare
from ingest.sources import open_source
from linewatch.config import Config, load
from storage.lines import Lines
from storage.models import open_bundle
from storage.server import connect
from storage.verdicts import VerdictStream

BATCH = 8
FRAMES = 200
BELT = f"synthetic:belt?rate=max&defect_every=0&frames={FRAMES}"


def main() -> None:
    """Measure and print a table; the raw figures go to `var/overhead.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="../shared/weights/resnet18-imagenet-layer1to3.safetensors")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", type=Path, default=Path("var/overhead.json"))
    parser.add_argument("--bare", help="(internal) measure this bundle alone and print what was seen as JSON")
    args = parser.parse_args()
    if args.bare:
        print(json.dumps(bare(args.bare, args.seconds)))
        return
    weights = args.weights if Path(args.weights).exists() else "random"
    with tempfile.TemporaryDirectory(prefix="lw-overhead-") as folder:
        report = measure(Path(folder), weights=weights, rounds=args.rounds, seconds=args.seconds)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=1))
    print(table(report))


def measure(folder: Path, *, weights: str, rounds: int, seconds: float) -> dict[str, object]:
    """Fit a model, then measure in turns."""
    model = folder / "data" / "models" / "belt"
    record(folder / "full.mp4", fps=25)
    # Learned from the video itself: a model of uncompressed frames would reject them all, and measure evidence.
    run("fit", "--detector", "padim", "--data", str(folder / "full.mp4"), "--out", str(model), "--weights", weights)
    full = write_config(folder / "full.yaml", source="full.mp4?rate=max&loop=1", deadline_ms=None)
    throughput = []
    for number in range(rounds):
        alone = measure_bare(model, seconds)
        with running(full):
            whole = measure_throughput(load(full), seconds)
        bare_fps, lanes_fps = alone["fps"], alone["lanes_fps"]
        entry = {"bare_fps": bare_fps, "lanes_fps": lanes_fps, "whole_fps": whole}
        throughput.append({**entry, "ratio": whole / bare_fps, "ratio_lanes": whole / lanes_fps})
        said = ", ".join(f"{key} {value:.2f}" for key, value in throughput[-1].items())
        print(f"round {number + 1}: {said}", flush=True)
    half = statistics.median(entry["whole_fps"] for entry in throughput) / 2
    record(folder / "half.mp4", fps=half)
    halved = write_config(folder / "half.yaml", source="half.mp4?loop=1", deadline_ms=5000)
    alone_ms = measure_bare(model, seconds)
    with running(halved):
        latency = measure_latency(load(halved), seconds)
    return {
        "cores": os.cpu_count(),
        "weights": weights,
        "throughput": throughput,
        "ratio_median": statistics.median(entry["ratio"] for entry in throughput),
        "half_load_fps": half,
        "bare_single_ms": alone_ms["single_ms"],
        "latency_ms": latency,
    }


def bare(model: str, seconds: float) -> dict[str, object]:
    """The detector in a loop: frames a second at the same batch size, and milliseconds of single frames.

    Its threads sleep while they wait, as in the system: on an idle machine spinning gains a few percent (set
    OMP_WAIT_POLICY=ACTIVE to see), on a shared one it loses a multiple.
    """
    engine = Engine(open_bundle(model))
    frames = [prepare(grab.picture, engine.preprocessing) for grab in grabs(BATCH) if grab.picture is not None]
    batch = np.stack(frames)
    engine.judge(batch)
    fps = loop(engine, batch, seconds, threads=0)
    with ThreadPoolExecutor(lanes := min(os.cpu_count() or 1, MOST_LANES)) as pool:
        share = max(1, (os.cpu_count() or 1) // lanes)
        side_by_side = sum(pool.map(lambda _: loop(engine, batch, seconds, threads=share), range(lanes)))
    single = []
    for _ in range(50):
        began = time.perf_counter()
        engine.judge(batch[:1])
        single.append((time.perf_counter() - began) * 1e3)
    return {"fps": fps, "lanes_fps": side_by_side, "single_ms": quantiles(single)}


def loop(engine: Engine, batch: np.ndarray, seconds: float, *, threads: int) -> float:
    """Frames a second of one loop; `threads` 0: all cores."""
    done, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        done += len(engine.judge(batch, threads=threads).scores)
    return done / (time.monotonic() - start)


def measure_bare(model: Path, seconds: float) -> dict[str, object]:
    """`bare` in a process of its own."""
    command = [sys.executable, __file__, "--bare", str(model), "--seconds", str(seconds)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure_throughput(config: Config, seconds: float) -> float:
    """Verdicts stored per second in the steady state."""
    lines = Lines(connect(config.storage))
    warm_up(lines)
    before, start = judged(lines), time.monotonic()
    time.sleep(seconds)
    return (judged(lines) - before) / (time.monotonic() - start)


def measure_latency(config: Config, seconds: float) -> dict[str, float]:
    """Milliseconds from capture to the verdict in storage (the stream's own time stamp)."""
    client = connect(config.storage)
    lines, stream = Lines(client), VerdictStream(client)
    warm_up(lines)
    cursor = stream.latest(1)[0][0]
    time.sleep(seconds)
    entries = stream.read(cursor, count=100_000)
    unknown = sum(verdict.status == "unknown" for _, verdict in entries)
    spans = [int(entry.split("-")[0]) - verdict.captured_ns / 1e6 for entry, verdict in entries]
    return {**quantiles(spans), "verdicts": len(entries), "unknown": unknown}


def warm_up(lines: Lines) -> None:
    """Wait until this start of the system has judged a few batches; earlier rounds are in the counters too."""
    wait_for(lambda: judged(lines) >= 0)  # Redis answers
    before = judged(lines)
    wait_for(lambda: judged(lines) > before + 5 * BATCH)
    time.sleep(2.0)


def judged(lines: Lines) -> int:
    """Frames of all lines that were inspected."""
    return sum(state.passed + state.rejected for state in lines.states())


def quantiles(values: list[float]) -> dict[str, float]:
    """Median and tails."""
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}


def grabs(count: int) -> list:  # type: ignore[type-arg]  # of whatever the source grabs
    """The first pictures of the belt."""
    source = open_source(BELT)
    return [grab for _ in range(count) if (grab := source.grab()) is not None]


def record(path: Path, *, fps: float) -> None:
    """Write the belt as a video of the given rate."""
    writer = None
    for grab in grabs(FRAMES):
        height, width = grab.picture.shape[:2]
        writer = writer or cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, (width, height))
        writer.write(grab.picture)
    writer.release()


def write_config(path: Path, *, source: str, deadline_ms: int | None) -> Path:
    """One line, one worker."""
    lines = [
        "data: data",
        f"workers: [{{name: w0, max_batch: {BATCH}}}]",
        f"lines: [{{id: belt, source: '{source}', model: belt, frozen_after_s: 0, false_alarms: 1%"
        + (f", deadline_ms: {deadline_ms}" if deadline_ms else "")
        + "}]",
        "alerts: {page: {bind: '127.0.0.1:0'}, sinks: []}",
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@contextlib.contextmanager
def running(config: Path) -> Iterator[None]:
    """`linewatch up` while the block runs."""
    env = {**os.environ, "LINEWATCH_LOG_LEVEL": "error"}
    command = [sys.executable, "-m", "linewatch", "up", str(config)]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()  # its roles end with it
                raise


def run(*arguments: str) -> None:
    """Run a linewatch command to its end."""
    subprocess.run([sys.executable, "-m", "linewatch", *arguments], check=True)


def wait_for(condition: Callable[[], bool], timeout: float = 120.0) -> None:
    """Wait until it holds; storage may still be starting."""
    from storage.errors import StoreUnavailable  # noqa: PLC0415 - only here

    until = time.monotonic() + timeout
    while time.monotonic() < until:
        with contextlib.suppress(StoreUnavailable):
            if condition():
                return
        time.sleep(0.2)
    raise SystemExit("the system judged nothing: run `linewatch up` by hand and look at its log")


def table(report: dict) -> str:  # type: ignore[type-arg]  # JSON
    """What the README of benchmarks shows."""
    single, latency = report["bare_single_ms"], report["latency_ms"]
    bare_fps = statistics.median(entry["bare_fps"] for entry in report["throughput"])
    whole_fps = statistics.median(entry["whole_fps"] for entry in report["throughput"])
    lanes_fps = statistics.median(entry["lanes_fps"] for entry in report["throughput"])
    lanes_ratio = statistics.median(entry["ratio_lanes"] for entry in report["throughput"])
    ratio, half = report["ratio_median"], report["half_load_fps"]
    rows = [
        "| | bare detector | whole system | ratio |",
        "|---|---|---|---|",
        f"| frames a second, full load, batch {BATCH} | {bare_fps:.1f} | {whole_fps:.1f} | {ratio:.2f} |",
        f"| the same, the bare detector in two loops side by side | {lanes_fps:.1f} | | {lanes_ratio:.2f} |",
    ]
    for name in ("p50", "p95", "p99"):
        one, all_of_it = single[name], latency[name]
        rows.append(f"| {name} of one frame, half load ({half:.1f}/s) | {one:.0f} ms | {all_of_it:.0f} ms | |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
