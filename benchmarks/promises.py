"""Whether promises about false alarms are kept: on real good scores, on scores that remember, on held-out good images.

A promise reads "at most this share of good units are rejected, with confidence 1 - delta". So over many calibrations
the share of those whose true rate exceeds what they promised must be at most delta, plus three standard errors.
Exits with 1 if one is not: `python benchmarks/promises.py --root ../shared/data`.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import norm

from inference.accumulation import cusum
from inference.blocks import block_maxima
from inference.engine import Engine
from inference.false_alarms import parse_false_alarms
from inference.training.datasets import pictures_in
from inference.training.fit import fit_model
from inference.training.images import FolderImages, Unreadable, groups
from inference.training.observing import from_scores
from inference.training.recipe import recipe
from ingest.preprocess import Preprocessing

Scores = NDArray[np.float64]
Promises = Sequence[tuple[str, float]]  # what is asked, and delta

DELTAS = (0.05, 0.1)
SETS = ("magnetic_tile", "kolektorsdd", "battery_weld", "dobot_cubes")
POPULATIONS = ("magnetic_tile", "kolektorsdd")
ASKED = ("1%", "2%", "5%", "10%", "20%")
MARGINALS: dict[str, Callable[[Scores], Scores]] = {
    "normal": lambda x: x,
    "exponential": lambda x: -norm.logsf(x),
    "heavy (Pareto 3)": lambda x: np.exp(-norm.logsf(x) / 3),
}
"""What standard normal values become: the order in time stays, the tail changes."""
MEMORIES = (0.0, 0.3, 0.9, 0.97)
"""Correlations between neighbouring frames."""
LONG = 2_000_000
"""Frames of the series that says what is true."""


class Tally:
    """How many of some calibrations broke their promise."""

    def __init__(self, delta: float) -> None:
        self._delta, self._runs, self._broken = delta, 0, 0

    def add(self, promised: float, true: float) -> None:
        """Note one calibration."""
        self._runs += 1
        self._broken += true > promised + 1e-12

    @property
    def share(self) -> float:
        """Share of the calibrations that broke it."""
        return self._broken / self._runs

    @property
    def allowed(self) -> float:
        """Delta and three standard errors."""
        return self._delta + 3 * math.sqrt(self._delta * (1 - self._delta) / self._runs)

    @property
    def kept(self) -> bool:
        """Whether the promises held as often as they said."""
        return self.share <= self.allowed

    def __str__(self) -> str:
        return f"{self.share:.1%}{'' if self.kept else ' **broken**'}"


def real(population: Scores, n: int, promises: Promises, *, runs: int, seed: int = 0) -> list[Tally]:
    """Calibrate `runs` times on n scores drawn from a population, which also says what is true."""
    rng, tallies = np.random.default_rng(seed), [Tally(delta) for _, delta in promises]
    for _ in range(runs):
        calibration = from_scores(rng.choice(population, n))
        for (asked, delta), tally in zip(promises, tallies, strict=True):
            limit = calibration.limit(parse_false_alarms(asked), confidence=1 - delta)
            tally.add(limit.guaranteed_rate, float(np.mean(population > limit.threshold)))
    return tallies


def remembering(frames: int, memory: float, rng: np.random.Generator) -> Scores:
    """A stationary AR(1) series of standard normal values `[frames]` with correlation `memory` between neighbours."""
    steps = rng.normal(size=frames) * math.sqrt(1 - memory**2)
    steps[0] = rng.normal()
    return np.asarray(lfilter([1.0], [1.0, -memory], steps), np.float64)


def video(
    frames: int, memory: float, marginal: str, promises: Promises, *, runs: int, long: int = LONG, seed: int = 0
) -> tuple[list[Tally], float]:
    """Calibrate `runs` times on a good video at one frame a second, as `linewatch calibrate` would.

    Returns:
        The tallies, and the median number of blocks.
    """
    rng, tallies, blocks = np.random.default_rng(seed), [Tally(delta) for _, delta in promises], []
    change = MARGINALS[marginal]
    truth = change(remembering(long, memory, rng))

    @cache
    def true_maxima(length: int) -> Scores:
        return np.sort(block_maxima(truth, length))

    for _ in range(runs):
        calibration = from_scores(change(remembering(frames, memory, rng)), video=True, frame_s=1.0)
        maxima = true_maxima(calibration.decorrelation)
        blocks.append(len(calibration.scores))
        for (asked, delta), tally in zip(promises, tallies, strict=True):
            limit = calibration.limit(parse_false_alarms(asked), confidence=1 - delta)
            above = maxima.size - np.searchsorted(maxima, limit.threshold, side="right")
            tally.add(limit.guaranteed_rate, float(above) / maxima.size)
    return tallies, float(np.median(blocks))


def adding_up(
    frames: int, memory: float, asked: str, delta: float, *, slack: float, runs: int, long: int, seed: int = 0
) -> Tally:
    """The same for sums of evidence: p-values and limit both come from one calibration."""
    rng, tally = np.random.default_rng(seed), Tally(delta / 2)
    truth = remembering(long, memory, rng)
    for _ in range(runs):
        calibration = from_scores(remembering(frames, memory, rng), video=True, frame_s=1.0)
        limit = calibration.limit(parse_false_alarms(asked), confidence=1 - delta, slack=slack)
        sums = calibration.accumulated(slack, limit)
        good = np.asarray(calibration.scores)
        p_values = (1 + good.size - np.searchsorted(good, truth, side="left")) / (good.size + 1)
        maxima = np.asarray(block_maxima(cusum(p_values, slack), round(sums.unit_s)))
        tally.add(sums.guaranteed_rate, float(np.mean(maxima > sums.threshold)))
    return tally


def tails(
    draw: Callable[[np.random.Generator, int], Scores], sf: Callable[[float], float], n: int, asked: float, *, runs: int
) -> tuple[float, list[float]]:
    """Share of refusals, and the 10th, 50th and 90th percentile of true over asked rate of the other estimates."""
    rng, ratios = np.random.default_rng(0), []
    for _ in range(runs):
        limit = from_scores(draw(rng, n)).threshold(asked)
        if limit.treatment == "tail":
            ratios.append(sf(limit.threshold) / asked)
    shown = np.percentile(ratios, [10, 50, 90]).tolist() if ratios else [math.nan] * 3
    return 1 - len(ratios) / runs, shown


def mixture(rng: np.random.Generator, n: int) -> Scores:
    """Good parts of two kinds: one in fifty scores far higher than the others."""
    return np.where(rng.random(n) < 0.02, 8 + 0.3 * rng.normal(size=n), rng.normal(size=n))


LAWS = {
    "normal": (lambda rng, n: rng.normal(size=n), norm.sf),
    "exponential": (lambda rng, n: rng.exponential(size=n), lambda z: math.exp(-z)),
    "heavy (Pareto 3)": (lambda rng, n: rng.random(n) ** (-1 / 3), lambda z: z**-3.0),
    "two kinds (1 in 50 far above)": (mixture, lambda z: 0.02 * norm.sf((z - 8) / 0.3) + 0.98 * norm.sf(z)),
}


def good_scores(engine: Engine, folders: Sequence[Path]) -> Scores:
    """Scores of the good images in folders that are there."""
    paths = [path for folder in folders if folder.is_dir() for path in pictures_in(folder)]
    images = FolderImages(paths, engine.preprocessing, Unreadable(str(folders[0]), len(paths)))
    return np.concatenate([engine.judge(group).scores for group in groups(images, 8)]).astype(np.float64)


def rows(table: Iterator[Sequence[object]]) -> None:
    """Print Markdown as it comes."""
    for number, row in enumerate(table):
        print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)
        if number == 0:
            print("|" + "---|" * len(row), flush=True)


class Benchmark:
    """Runs all tables and remembers whether every promise was kept."""

    def __init__(self, runs: int, long: int) -> None:
        self._runs, self._long = runs, long
        self.tallies: list[Tally] = []

    def _kept(self, tally: Tally) -> Tally:
        self.tallies.append(tally)
        return tally

    def real(self, populations: dict[str, Scores]) -> Iterator[Sequence[object]]:
        """Draws from real good scores."""
        asked = ("1%", "5%", "10%")
        promises = [(a, delta) for a in asked for delta in DELTAS]
        yield "population", "n", *(f"{a}, delta {delta:.0%}" for a, delta in promises)
        for name, population in populations.items():
            for n in (30, 100, 300):
                found = real(population, n, promises, runs=self._runs, seed=n)
                yield f"{name} ({population.size})", n, *map(self._kept, found)

    def video(self) -> Iterator[Sequence[object]]:
        """Series that remember."""
        promises = [(asked, delta) for asked in ("5%", "1 per 10min") for delta in DELTAS]
        yield "scores", "correlation time", "frames", "blocks", *(f"{asked}, delta {d:.0%}" for asked, d in promises)
        for seed, (marginal, memory, frames) in enumerate(product(MARGINALS, MEMORIES, (1000, 5000))):
            options = {"runs": self._runs, "long": self._long, "seed": seed}
            found, blocks = video(frames, memory, marginal, promises, **options)
            time = f"{(1 + memory) / (1 - memory):.3g}"
            yield marginal, time, frames, f"{blocks:.0f}", *map(self._kept, found)

    def adding_up(self) -> Iterator[Sequence[object]]:
        """Sums of evidence over the same."""
        yield "correlation time", "frames", "asked", *(f"broken, delta {delta / 2:.1%}" for delta in DELTAS)
        runs, long = max(self._runs // 4, 1), self._long // 10
        for memory in (0.0, 0.9):
            for frames, asked in ((2000, "1 per 10min"), (10_000, "1 per 10min")):
                found = [
                    self._kept(adding_up(frames, memory, asked, delta, slack=1.5, runs=runs, long=long))
                    for delta in DELTAS
                ]
                yield f"{(1 + memory) / (1 - memory):.3g}", frames, asked, *found

    def tails(self) -> Iterator[Sequence[object]]:
        """Estimates where nothing is promised."""
        yield "scores", "n", "asked", "refused", "true / asked: median (10 % to 90 %)"
        for name, (draw, sf) in LAWS.items():
            for n, asked in ((200, 1e-3), (300, 1e-3), (1000, 1e-3), (1000, 1e-4)):
                refused, (low, median, high) = tails(draw, sf, n, asked, runs=max(self._runs // 4, 1))
                shown = "-" if math.isnan(median) else f"{_ratio(median)} ({_ratio(low)} to {_ratio(high)})"
                yield name, n, f"{asked:g}", f"{refused:.0%}", shown


def _ratio(value: float) -> str:
    return "0" if value < 1e-6 else f"{value:.2g}"


def held_out(engines: dict[str, Engine], root: Path) -> Iterator[Sequence[object]]:
    """Achieved against asked on test/good, which neither fitting nor calibration has seen."""
    yield "set", "good: calibration, test", *(f"asked {asked}" for asked in ASKED)
    for name, engine in engines.items():
        scores, calibration = good_scores(engine, [root / name / "test" / "good"]), engine.calibration
        cells = []
        for asked in ASKED:
            limit = calibration.limit(parse_false_alarms(asked))
            mark = {"rank": "", "tail": " (tail)", "refused": " (refused)"}[limit.treatment]
            cells.append(f"{np.mean(scores > limit.threshold):.1%}, promised {limit.guaranteed_rate:.1%}{mark}")
        yield name, f"{len(calibration.scores)} ({calibration.method}), {scores.size}", *cells


def fitted(name: str, root: Path, weights: str | None, folder: Path) -> Engine:
    """PaDiM as it comes."""
    made = recipe("padim", {}, preprocessing=Preprocessing(size=(256, 256)), weights=weights)
    return Engine(fit_model(made, str(root / name), folder / name))


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", help="file, or `random`; default: the shared ResNet18 if present, else the store")
    parser.add_argument("--runs", type=int, default=1000, help="calibrations in each cell")
    parser.add_argument("--long", type=int, default=LONG, help="frames of the series that says what is true")
    parser.add_argument("--sets", nargs="*", default=SETS)
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    beside = options.root.parent / "weights" / "resnet18-imagenet-layer1to3.safetensors"
    if options.weights is None and beside.is_file():
        options.weights = str(beside)
    bench = Benchmark(options.runs, options.long)
    there = [name for name in options.sets if (options.root / name).is_dir()]
    with tempfile.TemporaryDirectory() as folder:
        engines = {name: fitted(name, options.root, options.weights, Path(folder)) for name in there}
        if engines:
            print("### Held-out good images\n")
            rows(held_out(engines, options.root))
            drawn = {
                name: good_scores(
                    engines[name], [options.root / name / part / "good" for part in ("calibration", "test")]
                )
                for name in POPULATIONS
                if name in engines
            }
            print("\n### Drawn from real good scores\n")
            rows(bench.real(drawn))
    print("\n### Scores that remember\n")
    rows(bench.video())
    print("\n### Evidence that adds up\n")
    rows(bench.adding_up())
    print("\n### Tails\n")
    rows(bench.tails())
    kept = sum(tally.kept for tally in bench.tallies)
    print(f"\n{kept} of {len(bench.tallies)} promises kept, with three standard errors to spare.")
    return 0 if kept == len(bench.tallies) else 1


if __name__ == "__main__":
    sys.exit(main())
