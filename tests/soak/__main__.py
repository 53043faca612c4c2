"""`python -m tests.soak`: an hour of full load, and whether anything grows; see Soak in docs/reliability.md."""

import argparse
import json
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from linewatch.config import Config, load
from tests.soak.drawing import draw
from tests.soak.judging import LONG_S, Ending, Report, judge, warm_up_s
from tests.soak.load import learn, write_config
from tests.soak.plant import Plant, accounts, running
from tests.soak.samples import Sample, SampleFile
from tests.soak.visitors import Visitor, hook

_PROGRESS_S = 30.0
_VISITS_S = 15.0


def main() -> int:
    """Run it; 0 if everything held, 1 if not."""
    options = _options()
    folder: Path = options.folder
    shutil.rmtree(folder / "data", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "samples.jsonl").unlink(missing_ok=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    console = Console()
    with hook() as receiver:
        host, port = receiver.server_address[:2]
        path = write_config(folder, fps=options.fps, evidence_mb=options.evidence_mb, hook=f"{host!s}:{port}")
        config = load(path)
        console.print("learning a belt …")
        learn(config.storage.models / "belt")
        kept = SampleFile(folder / "samples.jsonl")
        with running(path, config, log=folder / "up.log") as plant:
            plant.await_frames()
            visitor = Visitor(plant.url_file)
            visitor.rush()
            visitor.visit()
            plant.congest()
            _watch(plant, visitor, kept, seconds=options.minutes * 60, every_s=options.every, stop=stop)
            console.print("ending …")
            exit_code = plant.stop()
        states, counted = accounts(config)
        ending = Ending(
            states, counted, exit_code, dict(visitor.answers), dict(visitor.failures), hook_taken=receiver.taken
        )
    if len(kept.samples) < 2:
        console.print("too short to tell anything")
        return 1
    report = judge(kept.samples, ending, cap_mb=options.evidence_mb, roles=_roles(config))
    (folder / "report.json").write_text(json.dumps(report.dump(), indent=1) + "\n", encoding="utf-8")
    draw(kept.samples, report, folder / "soak.png")
    _print(report, console)
    console.print(f"report: {folder / 'report.json'}, {folder / 'soak.png'}", highlight=False)
    return 0 if report.ok else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long it is watched (Ctrl-C ends it earlier)")
    parser.add_argument("--every", type=float, default=5.0, help="seconds from sample to sample")
    parser.add_argument("--fps", type=float, default=200.0, help="frames a second of each of the three cameras")
    parser.add_argument("--evidence-mb", type=float, default=20.0, help="bound on the evidence kept")
    parser.add_argument("--folder", type=Path, default=Path("var/soak"), help="what is in its `data` is replaced")
    return parser.parse_args()


def _roles(config: Config) -> list[str]:
    captures = [f"capture {line.id}" for line in config.lines]
    return [*captures, *(f"worker {worker.name}" for worker in config.workers), "alerts", "redis", "supervisor"]


def _watch(
    plant: Plant, visitor: Visitor, kept: SampleFile, *, seconds: float, every_s: float, stop: threading.Event
) -> None:
    """Sample, visit right after a sample (so that no visitor is there at the next), and say how it goes."""
    began = time.monotonic()
    visit_at = tell_at = 0.0
    crowded = seconds < LONG_S  # whose memory is not judged
    number = 0
    while plant.alive:
        sample = plant.sample()
        kept.add(sample)
        elapsed = time.monotonic() - began
        if elapsed >= tell_at:
            tell_at += _PROGRESS_S
            print(_progress(sample, seconds), flush=True)  # noqa: T201 - what a person waits for
        if elapsed >= seconds:
            return
        if not crowded and elapsed >= 0.8 * warm_up_s(seconds):
            crowded = True  # they came at the start too; what they ask for has become as large as it gets since
            visitor.rush()
        if elapsed >= visit_at:
            visit_at = elapsed + min(_VISITS_S, 3 * every_s)
            visitor.visit()
        number = max(number + 1, int((time.monotonic() - began) / every_s) + 1)
        if stop.wait(max(0.0, began + number * every_s - time.monotonic())):
            return


def _progress(sample: Sample, seconds: float) -> str:
    memory = ", ".join(f"{role} {process.rss_mb:.0f}" for role, process in sample.roles.items())
    return (
        f"{sample.at_s / 60:5.1f} of {seconds / 60:g} min: {sample.frames} frames, {sample.lost} not judged; "
        f"evidence {sample.evidence_mb:.1f} MB; RSS in MB: {memory}"
    )


def _print(report: Report, console: Console) -> None:
    table = Table("process", "RSS MB", "MB/h [95 %]", "memory", "descriptors", "threads", box=None)
    for name, role in report.roles.items():
        found = role.memory
        table.add_row(
            name,
            f"{role.rss_mb_start:.1f} → {role.rss_mb_end:.1f}",
            f"{found.mb_per_h:+.2f} [{found.low:.1f}, {found.high:.1f}]",
            found.trend,
            f"{role.fds_start} → {role.fds_end}" + (" grow" if role.fds_grow else ""),
            f"{role.threads_start} → {role.threads_end}" + (" grow" if role.threads_grow else ""),
        )
    console.print(table)
    console.print(
        f"{report.frames} frames, {report.frames_per_s:.0f} a second, {report.lost_share:.0%} not judged; "
        f"{report.cores_busy:.2f} cores busy; evidence {report.evidence_max_mb:.1f} of {report.evidence_cap_mb:g} MB; "
        f"Redis {report.redis_mb_max:.1f} MB, its file {report.aof_mb_max:.1f} MB; "
        f"history {report.history_mb_end:.1f} MB, its log {report.wal_mb_max:.1f} MB; "
        f"logs {report.log_mb_per_h:.1f} MB/h; webhook {report.hook_taken}",
        highlight=False,
        soft_wrap=True,
    )
    for fault in report.faults:
        console.print(f"[red]{fault}[/]", highlight=False, soft_wrap=True)
    console.print("[green]all held[/]" if report.ok else "[red]not everything held[/]")


if __name__ == "__main__":
    sys.exit(main())
