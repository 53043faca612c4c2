"""Which detector to fit, found out on this machine with these good images: no defect is needed.

1. How long judging one image takes decides who takes part at all. It costs seconds and needs no fitting; galleries
   grow with their images, so it is measured again afterwards.
2. The others are fitted on four fifths of the good images.
3. They judge the last fifth, as it is and with made-up defects. Only kinds that none of them trained with count, and
   no relatives of those (`inference.training.probes`).
4. The best of those that chance does not tell apart is chosen (`inference.training.standing`).

A candidate that fails is a row with its reason; the others go on.
"""

import os
import re
import shlex
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.engine import choose_device
from inference.errors import FitError, InferenceError
from inference.training.candidates import Candidate, trained_with
from inference.training.datasets import GoodImages, good_images
from inference.training.fit import HELD_OUT
from inference.training.images import Images, SpooledImages
from inference.training.probes import impartial
from inference.training.recipe import default_profile
from inference.training.recommendation import Recommendation, Status, Trial, cautions, why, why_not
from inference.training.report import Report, silent
from inference.training.standing import choose
from inference.training.trials import Ground, Run, Terms, hold, weigh

LEAST_HELD_OUT = 4
"""Fewer held-out images tell nothing."""
MOST_HELD_OUT = 200
"""More would take longer and tell little more."""

_ORDER: tuple[Status, ...] = ("chosen", "equal", "behind", "out of time", "too slow", "failed")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A recommendation, and the images its candidates were judged by."""

    summary: Recommendation
    held_out: Images


def recommend(
    data: str,
    candidates: Sequence[Candidate],
    terms: Terms,
    *,
    every: int = 1,
    limit: int = 2000,
    report: Report = silent,
) -> Outcome:
    """Try candidates and choose one.

    Args:
        data: a folder, a video, or any other source of good images.
        candidates: who takes part, one at least.
        terms: what they are held to.
        every: of a source, use each `every`-th frame.
        limit: of a source, use at most so many frames.
        report: told how far the work is.

    Raises:
        DataError: the images cannot be used.
        EngineError: no such device.
        FitError: there are too few images.
    """
    device = choose_device(terms.device)
    load = os.getloadavg()[0]
    runs, hopeless = _line_up(candidates, terms)
    good = good_images(data, terms.preprocessing, every=every, limit=limit)
    train, held_out = (SpooledImages.copy(images) for images in _split(good, terms.seed))
    with tempfile.TemporaryDirectory(prefix="linewatch-") as folder:
        ground = Ground(train, held_out, f"{good.fingerprint} recommend", Path(folder))
        compared_on = _carry_out(runs, terms, ground, report)
    stood = [run for run in runs if run.standing is not None]
    command = None
    if stood:
        choice = choose([(run.standing, run.ms) for run in stood if run.standing is not None], terms.seed)
        for index, run in enumerate(stood):
            run.status = "chosen" if index == choice.best else "equal" if index in choice.equals else "behind"
        said = why([run.trial() for run in stood], choice)
        command = _command(stood[choice.best], data, terms, every=every, limit=limit)
    else:
        said = why_not([*hopeless, *(run.trial() for run in runs)], terms.budget_ms)
    trials = sorted([*hopeless, *(run.trial() for run in runs)], key=_rank)
    summary = Recommendation(
        data=data,
        budget_ms=terms.budget_ms,
        device=str(device),
        image_size=terms.preprocessing.size,
        seed=terms.seed,
        n_fitted=len(train),
        n_held_out=len(held_out),
        compared_on=compared_on,
        trials=tuple(trials),
        why=said,
        cautions=cautions(trials, len(held_out), load=load, cores=len(os.sched_getaffinity(0))),
        command=command,
    )
    return Outcome(summary, held_out)


def _line_up(candidates: Sequence[Candidate], terms: Terms) -> tuple[list[Run], list[Trial]]:
    """The candidates that can be made, and the end of those that cannot (a backbone no layers are known for)."""
    runs, hopeless = [], []
    for candidate in candidates:
        try:
            runs.append(Run(candidate, terms))
        except (InferenceError, ValueError) as exc:
            hopeless.append(
                Trial(detector=candidate.detector, backbone=candidate.backbone, status="failed", reason=str(exc))
            )
    return runs, hopeless


def _carry_out(runs: Sequence[Run], terms: Terms, ground: Ground, report: Report) -> tuple[str, ...]:
    """Weigh all, then fit and judge those that are fast enough.

    Returns:
        The kinds of made-up defects that count.
    """
    for done, run in enumerate(runs, 1):
        with run.failing():
            weigh(run, terms, ground)
        report("measuring latency", done, len(runs))
    fast = [run for run in runs if not run.reason]
    compared_on = impartial(kind for run in fast for kind in trained_with(run.made))
    left = 60 * terms.minutes
    # Those that train by gradients share what time is left: the others cannot be told to hurry.
    order = sorted(fast, key=lambda run: (run.trains, run.ms))
    for place, run in enumerate(order):
        share = left / (len(order) - place) if run.trains else left
        started = time.monotonic()
        with run.failing():
            hold(run, terms, ground, seconds=share, compared_on=compared_on, report=report)
        left -= time.monotonic() - started if run.seconds is None else run.seconds
    return compared_on


def _split(good: GoodImages, seed: int) -> tuple[Images, Images]:
    """Four fifths to fit on, the last fifth to judge.

    Raises:
        FitError: there are too few.
    """
    n = len(good.train)
    held = max(LEAST_HELD_OUT, round(HELD_OUT * n))
    if n - held < 2:
        raise FitError(f"{n} good images are too few to compare detectors on: add images, better fifty")
    # Of a video the end, in one stretch: frames beside a random one would be known to who was fitted on them.
    order = np.arange(n) if good.video else np.random.default_rng(seed).permutation(n)
    kept, rest = np.sort(order[: n - held]), np.sort(order[n - held :])
    spread = np.unique(np.linspace(0, held - 1, min(held, MOST_HELD_OUT)).round().astype(int))
    return good.train.select(kept.tolist()), good.train.select(rest[spread].tolist())


def _rank(trial: Trial) -> tuple[int, float, float]:
    return _ORDER.index(trial.status), -(trial.image_auroc or 0.0), trial.ms or 0.0


def _command(run: Run, data: str, terms: Terms, *, every: int, limit: int) -> str:
    """The `linewatch fit` that makes the recommended model, as a line for a shell."""
    candidate, (width, height) = run.candidate, terms.preprocessing.size
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(data).resolve().stem).strip("-") or "model"
    words = ["linewatch", "fit", "--detector", candidate.detector]
    words += [] if candidate.backbone is None else ["--backbone", candidate.backbone]
    words += [] if candidate.weights is None else ["--weights", candidate.weights]
    words += ["--image-size", str(width) if width == height else f"{width}x{height}"]
    words += [] if terms.device == "auto" else ["--device", terms.device]
    words += [] if default_profile(run.made.device) == "quick" else ["--profile", "quick"]
    words += [] if terms.seed == 0 else ["--seed", str(terms.seed)]
    words += [] if every == 1 else ["--every", str(every)]
    words += [] if limit == 2000 else ["--limit", str(limit)]
    return shlex.join([*words, "--data", data, "--out", f"models/{name}"])
