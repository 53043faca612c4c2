"""Which detectors and backbones can be tried on this machine, and how long each takes to judge one image."""

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch

from inference.detectors import DETECTORS, detector_class
from inference.detectors.backbones import BACKBONES
from inference.detectors.base import Detection, Detector
from inference.errors import WeightsError
from inference.training.recipe import Recipe, recipe
from inference.weights import RANDOM, list_weights, recognise
from ingest.preprocess import Preprocessing

_REPEATS = 20
_WARM_UP = 3
_PATIENCE_S = 4.0  # whoever takes so long for fewer repeats is slow beyond doubt


@dataclass(frozen=True, slots=True)
class Candidate:
    """A detector with the backbone it is to use; None for a detector that has none."""

    detector: str
    backbone: str | None
    weights: str | None = None

    def __str__(self) -> str:
        return self.detector if self.backbone is None else f"{self.detector} on {self.backbone}"

    def recipe(self, preprocessing: Preprocessing, *, seed: int, device: str) -> Recipe:
        """Its quick profile."""
        options = {} if self.backbone is None else {"backbone": self.backbone}
        return recipe(
            self.detector,
            options,
            preprocessing=preprocessing,
            weights=self.weights,
            seed=seed,
            device=device,
            profile="quick",
        )


def candidates(
    detectors: Sequence[str] = (), backbones: Sequence[str] = (), weights: str | None = None
) -> list[Candidate]:
    """Every detector with every backbone whose weights are at hand: in the local store, or in a file.

    Args:
        detectors: their names; none: all there are.
        backbones: their names; none: all there are. Detectors without a backbone take part in any case.
        weights: a file, for the backbone it belongs to, or `random`, for all.

    Raises:
        InferenceError: there is no detector of that name.
        WeightsError: there is no such backbone, or no weights for any of them.
    """
    classes = {name: detector_class(name) for name in detectors or DETECTORS}
    for name in backbones:
        if name not in BACKBONES:
            raise WeightsError(f"no backbone {name!r}: choose one of {', '.join(BACKBONES)}")
    sources = _sources(backbones or BACKBONES, weights)
    found = []
    for name, cls in classes.items():
        possible = _backbones(cls)
        if not possible:
            found.append(Candidate(name, None))
        found += [Candidate(name, each, sources[each]) for each in possible if each in sources]
    if not found:
        raise WeightsError(
            f"no weights for {' or '.join(backbones or BACKBONES)}: bring a file (--weights FILE), add one "
            "(weights add NAME FILE) or let one be fetched (weights download NAME)"
        )
    return found


def trained_with(made: Recipe) -> tuple[str, ...]:
    """Kinds of made-up defects that a detector trains against: its setting `kinds`, where it has one."""
    return tuple(getattr(made.settings, "kinds", ()))


@torch.inference_mode()
def judge_ms(detector: Detector, device: torch.device, *, threads: int = 0) -> float:
    """Median time of judging one image: from uint8 pixels in memory to score and map in memory, as a worker does it.

    Args:
        detector: need not be fitted; what it computes does not matter here.
        device: where it lives.
        threads: CPU threads; 0: all cores.
    """
    width, height = detector.settings.image_size
    draw = np.random.default_rng(0)
    pictures = [torch.from_numpy(draw.integers(0, 256, (1, height, width, 3), np.uint8)) for _ in range(4)]
    times: list[float] = []
    with _threads(threads):
        began = time.perf_counter()
        for turn in range(_WARM_UP + _REPEATS):
            started = time.perf_counter()
            images = pictures[turn % len(pictures)].to(device).permute(0, 3, 1, 2).float().div_(255)
            detection: Detection = detector(images)
            _ = detection.scores.float().cpu(), detection.maps.float().cpu()
            times.append(1e3 * (time.perf_counter() - started))
            if time.perf_counter() - began > _PATIENCE_S and turn >= _WARM_UP:
                break
    return statistics.median(times[_WARM_UP:])


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or len(os.sched_getaffinity(0)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _sources(names: Sequence[str], weights: str | None) -> dict[str, str | None]:
    """Backbones whose weights are at hand, and where they come from; None is the store."""
    if weights == RANDOM:
        return dict.fromkeys(names, RANDOM)
    sources: dict[str, str | None] = {stored.name: None for stored in list_weights() if stored.name in names}
    if weights is None:
        return sources
    whose = recognise(weights)
    if whose is None or whose not in names:
        found = whose or "no known backbone"
        raise WeightsError(f"{weights} holds weights of {found}, not of {' or '.join(names)}: choose another file")
    return sources | {whose: weights}


def _backbones(cls: type[Detector]) -> list[str]:
    """What the setting `backbone` may be; empty where there is no such setting."""
    field = cls.settings_class.model_fields.get("backbone")
    return [] if field is None else [name for name in BACKBONES if name in _literals(field.annotation)]


def _literals(annotation: Any) -> set[Any]:
    """The values a type allows, also inside a union."""
    return {value for part in get_args(annotation) for value in (_literals(part) if get_args(part) else {part})}
