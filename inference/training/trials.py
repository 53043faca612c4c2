"""One candidate after the other is weighed, fitted and judged; what goes wrong with one is that one's affair."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
import torch

from inference.detectors import detector_class
from inference.detectors.trained import TrainedDetector, Training
from inference.errors import InferenceError
from inference.training.candidates import Candidate, judge_ms, trained_with
from inference.training.images import Images
from inference.training.probes import PROBES
from inference.training.recipe import Recipe
from inference.training.recommendation import Status, Trial
from inference.training.report import Report
from inference.training.standing import Standing, stand
from ingest.preprocess import Preprocessing

_DEFECTS = 60  # made-up ones of each kind, about
_MOST_COPIES = 8  # of a kind on one image
_HANDFUL = 8  # images, for a detector that cannot judge before it is fitted
_FEATURES_BYTES = 2 << 30
_WHOLE = 0.995  # of a training: the rest is rounding

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Terms:
    """What every candidate is held to.

    Attributes:
        preprocessing: how pictures become the input of all candidates.
        budget_ms: longest time that judging one image may take.
        minutes: time for all fitting together.
        device: `auto`, `cpu`, `cuda`, …
        threads: CPU threads while latency is measured, as the worker's setting of that name; 0: all cores.
        seed: everything drawn derives from it.
    """

    preprocessing: Preprocessing
    budget_ms: float
    minutes: float = 15.0
    device: str = "auto"
    threads: int = 0
    seed: int = 0


class Run:
    """One candidate on its way.

    Attributes:
        status: how it ended; `failed` until it has.
        reason: why it ended before it was judged; empty as long as it has not.
        ms: median time of judging one image, once measured.
        seconds: that fitting took.
        learned: share of its epochs that its training had time for, once fitted.
        standing: how it stands, once judged.
    """

    def __init__(self, candidate: Candidate, terms: Terms) -> None:
        self.candidate = candidate
        self.made: Recipe = candidate.recipe(terms.preprocessing, seed=terms.seed, device=terms.device)
        self.trains = issubclass(detector_class(candidate.detector), TrainedDetector)
        self.status: Status = "failed"
        self.reason = ""
        self.ms = 0.0
        self.seconds: float | None = None
        self.learned: float | None = None
        self.standing: Standing | None = None

    def end(self, status: Status, reason: str) -> None:
        """Take no further part."""
        self.status, self.reason = status, reason

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Keep what goes wrong inside to this candidate."""
        try:
            yield
        except Exception as exc:  # a detector may fail in any way, and the others are to go on
            log.debug("candidate failed", candidate=str(self.candidate), exc_info=exc)
            said = " ".join(str(exc).split()) or "no reason given"
            self.end("failed", said if isinstance(exc, InferenceError) else f"{type(exc).__name__}: {said}")
        finally:
            if self.made.device.type == "cuda":
                torch.cuda.empty_cache()

    def trial(self) -> Trial:
        """What became of it."""
        about = Trial(
            detector=self.candidate.detector,
            backbone=self.candidate.backbone,
            status=self.status,
            ms=self.ms or None,
            trained_with=trained_with(self.made),
            fit_seconds=self.seconds,
            learned=self.learned,
            reason=self.reason,
        )
        if (stood := self.standing) is None:
            return about
        return about.model_copy(
            update={
                "image_auroc": stood.auroc,
                "image_auroc_90": stood.interval(self.made.settings.seed),
                "found": stood.found,
                "pixel_auroc": stood.pixel_auroc,
                "aupro": stood.aupro,
                "kinds": {kind: stood.auroc_of(kind) for kind in stood.defects},
            }
        )


@dataclass(frozen=True, slots=True)
class Ground:
    """What all candidates are fitted on and judged by.

    Attributes:
        train: good images to fit on.
        held_out: good images to judge, as they are and with made-up defects.
        fingerprint: names the content of `train`.
        features: folder for features of frozen backbones, which candidates with the same backbone share.
    """

    train: Images
    held_out: Images
    fingerprint: str
    features: Path


def weigh(run: Run, terms: Terms, ground: Ground) -> None:
    """Measure how long an unfitted candidate judges one image: the least it will take once it is fitted."""
    detector = run.made.build().eval()
    try:
        run.ms = judge_ms(detector, run.made.device, threads=terms.threads)
    except Exception as exc:  # how an unfitted detector fails is its own affair
        log.debug("judges only when fitted", candidate=str(run.candidate), exc_info=exc)
        few = ground.train.select(range(min(_HANDFUL, len(ground.train))))
        made = replace(run.made, training=Training(minutes=0.05))
        detector = made.fit(made.build(), few, "measuring latency", _ignore)
        run.ms = judge_ms(detector, run.made.device, threads=terms.threads)
    _refuse_slow(run, terms)


def hold(
    run: Run, terms: Terms, ground: Ground, *, seconds: float, compared_on: tuple[str, ...], report: Report
) -> None:
    """Fit a candidate, measure it again, and let it judge.

    Args:
        run: gets what is found out.
        terms: what it is held to.
        ground: what it is fitted on and judged by.
        seconds: time for fitting; a detector that does not train takes what it takes.
        compared_on: kinds of made-up defects that count.
        report: told how far the work is.
    """
    if seconds <= 0:
        run.end("out of time", f"the {terms.minutes:g} minutes for fitting were spent: give more with --minutes")
        return
    training = Training(minutes=seconds / 60, features=ground.features, features_bytes=_FEATURES_BYTES)
    made = replace(run.made, training=training)
    epochs = _Epochs(report)
    started = time.monotonic()
    detector = made.fit(made.build(), ground.train, f"fitting {run.candidate}", epochs, ground.fingerprint)
    run.seconds, run.learned = time.monotonic() - started, epochs.share
    run.ms = judge_ms(detector, made.device, threads=terms.threads)
    _refuse_slow(run, terms)
    if not run.reason:
        run.standing = stand(
            made,
            detector,
            ground.held_out,
            kinds=PROBES,
            compared_on=compared_on,
            copies=min(_MOST_COPIES, -(-_DEFECTS // len(ground.held_out))),
            what=f"judging {run.candidate}",
            report=report,
        )


def _refuse_slow(run: Run, terms: Terms) -> None:
    if run.ms > terms.budget_ms:
        run.end("too slow", f"judges an image in {run.ms:.1f} ms, the budget is {terms.budget_ms:g} ms")


class _Epochs:
    """Passes reports on and notes which share of the work first announced was done in the end."""

    def __init__(self, report: Report) -> None:
        self._report, self._done, self._planned = report, 0, 1

    def __call__(self, what: str, done: int, total: int, note: str = "", /) -> None:
        self._done, self._planned = done, max(total, self._planned)
        self._report(what, done, total, note)

    @property
    def share(self) -> float:
        done = self._done / self._planned
        return done if done < _WHOLE else 1.0


def _ignore(_what: str, _done: int, _total: int, _note: str = "", /) -> None:
    """A handful of images is no progress."""
