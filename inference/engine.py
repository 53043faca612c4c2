"""Turns a saved model into verdict material: uint8 pictures in, scores and maps out.

Nothing here invents a score. What a detector cannot judge is NaN for that image alone, and the worker makes it
`unknown`; whatever else goes wrong is an error.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from inference.calibration import Calibration
from inference.detectors import detector_class
from inference.detectors.backbones import Backbone
from inference.detectors.base import Detection, Detector
from inference.errors import EngineError
from ingest.errors import IngestError
from ingest.preprocess import Preprocessing
from storage.models import Bundle, Registry

WARM_UP_S = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an engine says about a batch.

    Attributes:
        scores: `[B]` float32, higher = more anomalous; NaN where the image could not be judged.
        maps: `[B, h, w]` float32.
    """

    scores: NDArray[np.float32]
    maps: NDArray[np.float32]

    def __len__(self) -> int:
        """Images judged."""
        return len(self.scores)


class Engine:
    """One loaded model on one device.

    Args:
        bundle: the saved model.
        device: `auto` (a CUDA device when there is one), `cpu`, `cuda`, `cuda:1`.
        threads: CPU threads of the judging thread; 0 leaves torch's default, all cores.

    Raises:
        EngineError: no such device, one with too little memory, or a bundle that does not fit this version of its
            detector.
    """

    def __init__(self, bundle: Bundle, *, device: str = "auto", threads: int = 0) -> None:
        self.device = choose_device(device)
        self.ref = bundle.ref
        try:
            self.preprocessing = Preprocessing.recorded(bundle.manifest.preprocessing, ref=bundle.ref)
        except IngestError as exc:
            raise EngineError(str(exc)) from exc
        calibration = bundle.calibration()
        self.calibration = None if calibration is None else Calibration.recorded(calibration, ref=bundle.ref)
        self._threads = threads
        try:
            self._detector = load_detector(bundle).to(self.device)
        except torch.OutOfMemoryError as exc:
            raise EngineError(f"{self.device} has too little memory for {bundle.ref}") from exc
        if self.device.type == "cuda":
            # TF32 rounds to 10 bits: a model calibrated on one device would judge differently on another.
            torch.backends.cudnn.allow_tf32 = False

    def judge(self, batch: NDArray[np.uint8], *, threads: int = 0) -> Judgement:
        """Judge pictures `[B, h, w, 3]` uint8 RGB, as `prepare` makes them.

        Args:
            batch: the pictures.
            threads: CPU threads to use this time; 0: as the engine was told. Several threads may judge at once.

        Returns:
            One score and map per picture, in order; NaN scores for pictures the detector gave no finite answer to.

        Raises:
            EngineError: pictures of another size or type, the device's memory does not suffice, or the detector
                answered for another number of pictures.
        """
        width, height = self.preprocessing.size
        if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != (height, width, 3):
            raise EngineError(
                f"{self.ref} judges uint8 pictures [B, {height}, {width}, 3], got {batch.dtype} {list(batch.shape)}"
            )
        if len(batch) == 0:
            return Judgement(np.zeros(0, np.float32), np.zeros((0, height, width), np.float32))
        if threads or self._threads:
            torch.set_num_threads(threads or self._threads)  # holds for the calling thread only, hence each time
        try:
            judgement = self._judge(batch)
        except torch.OutOfMemoryError as exc:
            if len(batch) == 1:
                raise EngineError(f"{self.device} has too little memory for one picture with {self.ref}") from exc
            judgement = self._judge_halves(batch)
        if len(judgement.scores) != len(batch) or len(judgement.maps) != len(batch):
            raise EngineError(
                f"{self.ref} was given {len(batch)} pictures and answered with {len(judgement.scores)} scores "
                f"and {len(judgement.maps)} maps"
            )
        return judgement

    def warm_up(self, most: int = 1, *, seconds: float = WARM_UP_S) -> None:
        """Judge a grey batch of each size up to `most`, the largest first; after `seconds` no further one is begun.

        Libraries tune and allocate for each size they see for the first time: no frame should wait for that.
        """
        width, height = self.preprocessing.size
        began = time.monotonic()
        for size in range(most, 0, -1):
            self.judge(np.full((size, height, width, 3), 127, np.uint8))
            if time.monotonic() - began >= seconds:
                return

    @torch.inference_mode()
    def _judge(self, batch: NDArray[np.uint8]) -> Judgement:
        pixels = torch.from_numpy(np.require(batch, requirements=["C", "W"])).to(self.device)
        images = pixels.permute(0, 3, 1, 2).float().div_(255)  # [B, 3, h, w], channels last in memory
        detection: Detection = self._detector(images)
        scores = detection.scores.float()
        judged = scores.isfinite() & detection.maps.isfinite().flatten(1).all(1)
        scores = scores.masked_fill(~judged, torch.nan)
        return Judgement(scores.cpu().numpy(), detection.maps.float().cpu().numpy())

    def _judge_halves(self, batch: NDArray[np.uint8]) -> Judgement:
        half = -(-len(batch) // 2)
        log.warning("out of memory: judging in two halves", model=self.ref, device=str(self.device), batch=len(batch))
        torch.cuda.empty_cache()
        try:
            parts = [self._judge(batch[:half]), self._judge(batch[half:])]
        except torch.OutOfMemoryError as exc:
            raise EngineError(
                f"{self.device} has too little memory for {half} pictures with {self.ref}: lower max_batch"
            ) from exc
        return Judgement(np.concatenate([p.scores for p in parts]), np.concatenate([p.maps for p in parts]))


def choose_device(name: str) -> torch.device:
    """Find the device of that name; `auto` is CUDA when there is one.

    Raises:
        EngineError: there is no such device here.
    """
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name == "auto":
        return torch.device("cuda" if len(there) > 1 else "cpu")
    if name not in there and not (name == "cuda" and len(there) > 1):
        raise EngineError(f"no device {name!r} here: choose auto or one of {', '.join(there)}")
    return torch.device(name)


def save_detector(
    registry: Registry,
    name: str,
    detector: Detector,
    *,
    preprocessing: Preprocessing,
    data_fingerprint: str,
    n_train: int,
    calibration: Calibration | None = None,
    reference: Mapping[str, bytes] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write a fitted detector as a new version of model `name`.

    Args:
        registry: where models live.
        name: of the model.
        detector: fitted.
        preprocessing: what it was fitted with.
        data_fingerprint: of the training data.
        n_train: training images.
        calibration: good scores, when there are any yet.
        reference: pictures by file name, for the parity gate.
        metrics: figures for people.

    Raises:
        EngineError: a learned tensor is not finite: the detector was not fitted.
    """
    tensors = {key: tensor.detach().cpu().contiguous().numpy() for key, tensor in detector.state_dict().items()}
    for key, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise EngineError(f"{detector.name} has no finite {key}: fit it before saving")
    backbone = next((module for module in detector.modules() if isinstance(module, Backbone)), None)
    return registry.write(
        name,
        detector=detector.name,
        settings=detector.settings.model_dump(mode="json"),
        preprocessing=preprocessing.model_dump(mode="json"),
        backbone=None if backbone is None else backbone.name,
        backbone_sha256=None if backbone is None else backbone.sha256,
        data_fingerprint=data_fingerprint,
        n_train=n_train,
        metrics=dict(metrics or {}),
        tensors=tensors,
        calibration=None if calibration is None else calibration.model_dump(mode="json"),
        reference=dict(reference or {}),
    )


def load_detector(bundle: Bundle) -> Detector:
    """Rebuild a saved detector, bit for bit, on the CPU.

    Raises:
        EngineError: the bundle does not fit this version of its detector.
    """
    manifest = bundle.manifest
    cls = detector_class(manifest.detector)
    try:
        settings: Any = cls.settings_class.model_validate(manifest.settings)
        detector = cls(settings)
        detector.load_state_dict({key: torch.from_numpy(array) for key, array in bundle.tensors().items()})
    except (ValidationError, RuntimeError) as exc:
        reason = " ".join(str(exc).split())
        raise EngineError(f"{bundle.ref} does not fit this version of {manifest.detector}: {reason}") from exc
    for module in detector.modules():
        if isinstance(module, Backbone):
            module.sha256 = manifest.backbone_sha256
    return detector.eval().requires_grad_(requires_grad=False)
