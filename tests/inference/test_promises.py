"""A short run of the simulation that `benchmarks/promises.py` does at length: promises hold as often as they say."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import binom

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "promises.py"
RUNS = 150


@pytest.fixture(scope="module")
def promises() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("promises", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["promises"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["promises"]


def allowed(delta: float) -> float:
    return float(binom.ppf(0.999, RUNS, delta)) / RUNS


@pytest.mark.parametrize("delta", [0.05, 0.1])
def test_draws_from_a_population_with_a_heavy_tail(promises: ModuleType, delta: float) -> None:
    population = np.random.default_rng(9).standard_t(3, size=400)
    for n in (40, 150):
        tallies = promises.real(population, n, [(asked, delta) for asked in ("1%", "2%", "5%")], runs=RUNS)
        assert all(tally.share <= allowed(delta) for tally in tallies)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_video_whose_frames_remember_each_other(promises: ModuleType, memory: float) -> None:
    asked = [(asked, 0.1) for asked in ("10%", "1 per 10min")]
    tallies, _ = promises.video(2000, memory, "heavy (Pareto 3)", asked, runs=RUNS, long=200_000)
    assert all(tally.share <= allowed(0.1) for tally in tallies)


def test_single_frames_would_break_the_promise_that_blocks_keep(
    promises: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.blocks.BLOCK", 1)
    (tally,), _ = promises.video(500, 0.97, "normal", [("10%", 0.05)], runs=RUNS, long=200_000)
    assert tally.share > allowed(0.05)  # else the simulation could not tell a kept promise from a broken one


def test_evidence_that_adds_up(promises: ModuleType) -> None:
    tally = promises.adding_up(2000, 0.9, "1 per 10min", 0.1, slack=1.5, runs=40, long=50_000)
    assert tally.kept
