"""The papers' tables, measured: each detector learns each category's good pictures and judges its test pictures.

Everything that can be wrong with the request, the settings, the weights or the layout of the data is found before the
first model is fitted. After each category its result is on disk; a second run takes up what is there. Test pictures
reach neither fitting nor the choice of anything: the last epoch is the model.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inference.detectors.backbones import Backbone
from inference.detectors.base import Detector
from inference.detectors.checkpoints import discard
from inference.detectors.trained import Training
from inference.errors import EngineError
from inference.training.benchmark_results import Makings, Result, Results
from inference.training.evaluate import fit_map
from inference.training.images import ahead, to_batch
from inference.training.protocols.base import PaperProtocol, Split
from inference.training.protocols.geometry import Geometry, Size
from inference.training.protocols.pictures import read_tests
from inference.training.recipe import Profile, Recipe, recipe
from inference.training.report import Report
from inference.training.tally import Tally
from ingest.preprocess import Preprocessing


@dataclass(frozen=True, slots=True)
class Entrant:
    """A detector as it is to be measured.

    Attributes:
        detector: its name.
        options: settings that differ from the profile's, without seed and input size.
        weights: backbone weights: a file, `random`, or None for the local store.
        size: input size in pixels, or None for the protocol's or the detector's own.
    """

    detector: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    size: Size | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """An entrant with one seed, checked and ready: what is the same for all categories."""

    made: Recipe
    geometry: Geometry
    weights: tuple[str, ...]

    @property
    def detector(self) -> str:
        """Its name."""
        return self.made.detector

    @property
    def settings(self) -> dict[str, Any]:
        """All of them, in JSON's types."""
        return self.made.settings.model_dump(mode="json")


@dataclass(frozen=True, slots=True)
class Step:
    """One detector on one category: its result, new or `kept` from before; or none, and why.

    Attributes:
        arm: the detector.
        category: where.
        result: what was measured.
        kept: whether it was there already.
        skipped: why there is no result.
    """

    arm: Arm
    category: str
    result: Result | None = None
    kept: bool = False
    skipped: str = ""


class Benchmark:
    """Work that has been checked and waits to be carried out.

    Args:
        protocol: the dataset.
        entrants: the detectors.
        results: where results are kept.
        categories: names; none: all.
        seeds: of the detectors; the dataset is the same for all.
        device: `auto`, `cpu`, `cuda`, …
        profile: `paper`, `quick`, or None: quick on a CPU.
        batch: pictures judged at once.

    Raises:
        DataError: a category cannot be used.
        WeightsError: weights are missing.
        EngineError: no such device.
        ValueError: one line naming a setting that is wrong.
    """

    def __init__(
        self,
        protocol: PaperProtocol,
        entrants: Sequence[Entrant],
        results: Results,
        *,
        categories: Sequence[str] = (),
        seeds: Sequence[int] = (0,),
        device: str = "auto",
        profile: Profile | None = None,
        batch: int = 8,
    ) -> None:
        self.protocol, self.results, self._batch = protocol, results, batch
        self.splits = {category: protocol.split(category) for category in protocol.choose(categories)}
        self.arms = [
            _arm(protocol, entrant, seed=seed, device=device, profile=profile, batch=batch)
            for entrant in entrants
            for seed in seeds
        ]

    def carry_out(self, progress: Callable[[], AbstractContextManager[Report]]) -> Iterator[Step]:
        """Give result after result, each kept before it is given.

        Args:
            progress: makes a reporter for the time of one result.

        Raises:
            DataError: a picture cannot be used.
            FitError: nothing can be learned from a category.
            EngineError: a score or map is not finite.
            storage.errors.StorageError: a result cannot be kept.
        """
        for arm in self.arms:
            for category, split in self.splits.items():
                if split.unjudged:
                    yield Step(arm, category, skipped=split.unjudged)
                    continue
                makings = self.makings(arm, category)
                if (found := self.results.get(makings.key, counted=self.protocol.pooled)) is not None:
                    yield Step(arm, category, found, kept=True)
                    continue
                with progress() as report:
                    result, tally = self._measure(arm, split, makings, report)
                self.results.add(result, tally if self.protocol.pooled else None)
                discard(self._checkpoint(makings))
                yield Step(arm, category, result)
        shutil.rmtree(self._features, ignore_errors=True)

    def makings(self, arm: Arm, category: str) -> Makings:
        """Name what makes a result."""
        return Makings(
            dataset=self.protocol.name,
            protocol=self.protocol.version,
            category=category,
            content=self.splits[category].content,
            every=self.protocol.every,
            geometry=str(arm.geometry),
            detector=arm.detector,
            settings=arm.settings,
            weights=arm.weights,
            device=arm.made.device.type,
            code=version("linewatch"),
        )

    @property
    def _features(self) -> Path:
        return self.results.parts / "features"

    def _checkpoint(self, makings: Makings) -> Path:
        return self.results.parts / f"{makings.key}.checkpoint"

    def _measure(self, arm: Arm, split: Split, makings: Makings, report: Report) -> tuple[Result, Tally]:
        training = Training(checkpoint=self._checkpoint(makings), features=self._features)
        made = replace(arm.made, training=training)
        images = split.train.images(arm.geometry, report)
        started = time.monotonic()
        # Features may be shared by detectors that see the same pictures the same way.
        seen = f"{makings.dataset} {makings.protocol} {makings.content} {makings.every} {makings.geometry}"
        detector = made.fit(made.build(), images, f"{makings.category}: fitting", report, seen)
        fit_seconds = time.monotonic() - started
        tally, judge_seconds = self._judge(arm, detector, split, f"{makings.category}: judging", report)
        result = Result(
            makings=makings,
            figures=tally.figures(),
            n_train=len(images),
            n_good=len(tally.good),
            n_anomalous=len(tally.anomalous),
            n_regions=0 if tally.pixels is None else tally.pixels.n_regions,
            fit_seconds=round(fit_seconds, 3),
            judge_seconds=round(judge_seconds, 3),
        )
        return result, tally

    @torch.inference_mode()
    def _judge(self, arm: Arm, detector: Detector, split: Split, what: str, report: Report) -> tuple[Tally, float]:
        """Judge the test pictures; the seconds are the detector's alone."""
        tally = Tally(pixels=split.masks and type(detector).pixel_maps)
        items = read_tests(self.protocol.root, split.tests, arm.geometry, split.sizes)
        seconds = 0.0
        for group in ahead(iter(lambda: list(islice(items, self._batch)), [])):
            batch = to_batch(np.stack([picture for _, picture, _ in group])).to(arm.made.device)
            started = time.monotonic()
            detection = detector(batch)
            scores, maps = detection.scores.float().cpu().numpy(), detection.maps.float().cpu().numpy()
            seconds += time.monotonic() - started
            for (test, _, mask), score, anomaly_map in zip(group, scores, maps, strict=True):
                if not (np.isfinite(score) and np.isfinite(anomaly_map).all()):
                    raise EngineError(f"{arm.detector} gives {test.path} a score or map that is not finite")
                tally.add(float(score), anomalous=test.anomalous, anomaly_map=fit_map(anomaly_map, mask), mask=mask)
            report(what, len(tally), len(split.tests))
        return tally, seconds


def _arm(
    protocol: PaperProtocol, entrant: Entrant, *, seed: int, device: str, profile: Profile | None, batch: int
) -> Arm:
    """Check an entrant's settings and weights."""

    def prepared(preprocessing: Preprocessing | None) -> Recipe:
        return recipe(
            entrant.detector,
            entrant.options,
            preprocessing=preprocessing,
            weights=entrant.weights,
            seed=seed,
            device=device,
            batch=batch,
            profile=profile,
        )

    usual = prepared(None).settings.image_size
    geometry = protocol.geometry(entrant.detector, usual, entrant.size)
    # The pictures come from the geometry; of this the recipe takes the input's size alone.
    made = prepared(Preprocessing(size=geometry.size, resample="cubic"))
    if made.device.type == "cuda":
        # TF32 rounds to 10 bits; the engine that serves a model does without it, too.
        torch.backends.cudnn.allow_tf32 = False
    weights = tuple(m.sha256 or "" for m in made.build().modules() if isinstance(m, Backbone))
    return Arm(made, geometry, weights)
