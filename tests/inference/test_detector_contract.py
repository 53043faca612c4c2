"""The law of `inference/detectors/base.py`, for every detector in the table.

To add a detector: give it a row in `SMALL`, settings with which it fits in a second.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor

from inference.detectors import DETECTORS, detector_class
from inference.detectors.backbones import Backbone
from inference.detectors.base import Detection, Detector, Settings
from inference.detectors.costs import count_macs
from inference.detectors.trained import TrainedDetector
from inference.engine import load_detector, save_detector
from inference.errors import InferenceError
from inference.weights import load_backbone_weights
from ingest.preprocess import Preprocessing
from storage.models import Registry
from tests.inference.tensors import Tensors

SIZE = (48, 32)  # width, height
MLFF = {"batch": 12, "repeat": 2, "least_samples": 1, "learning_rate": 0.1, "kinds": ("confetti",), "width": 8}
SMALL: dict[str, list[dict[str, object]]] = {
    "mlff": [
        {**MLFF, "levels": 8, "scales": (1, 2), "epochs": 2, "learning_rate": 0.01},
        {**MLFF, "width": 16, "texture": False, "normalise": "none", "freeze_backbone": False, "redraw": True}
        | {"epochs": 12, "decay": 0.85},
        {**MLFF, "texture": False, "normalise": "none", "epochs": 12, "decay": 0.85},
    ],
    "padim": [{"dimensions": 20}, {"dimensions": 20, "reduction": "semi-orthogonal"}],
    "vae": [{"width": 4, "latent": 4, "epochs": 4, "batch": 8}],
    "spade": [{"neighbours": 5}, {"neighbours": 3, "kappa": 2, "storage": "float16", "score": "map"}],
    "msflow": [
        {"hidden": 16, "epochs": 2, "batch": 8},
        {"hidden": 16, "epochs": 2, "batch": 8, "subfeatures": 3, "normalise": "channels", "sigma": 2.0},
    ],
}
CASES = [pytest.param((name, given), id=f"{name}-{i}") for name in DETECTORS for i, given in enumerate(SMALL[name])]


def ignore(_done: int, _total: int, _note: str = "", /) -> None:
    """Nobody watches the progress."""


def pictures(count: int, seed: int) -> Tensor:
    width, height = SIZE
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode(mode=False)
def fit(name: str, given: dict[str, object], *, seed: int = 0) -> Detector:
    cls = detector_class(name)
    detector = cls(cls.settings_class.model_validate({**given, "image_size": SIZE, "seed": seed}))
    train = pictures(24, seed=100)
    with capture_logs():
        for module in detector.modules():
            if isinstance(module, Backbone):
                load_backbone_weights(module, "random", seed=seed)
        detector.fit(Tensors(train), ignore)
    return detector.eval()


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    name, given = request.param
    return name, given


@pytest.fixture(scope="module")
def detector(case: tuple[str, dict[str, object]]) -> Detector:
    return fit(*case)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def same(one: Detection, other: Detection) -> bool:
    return torch.equal(one.maps, other.maps) and torch.equal(one.scores, other.scores)


def test_alone(detector: Detector) -> None:
    batch = pictures(5, seed=1)
    together = detector(batch)
    backwards = detector(batch.flip(0))
    for i, image in enumerate(batch.split(1)):
        alone = detector(image)
        torch.testing.assert_close(together.scores[i : i + 1], alone.scores, rtol=1e-4, atol=0)
        torch.testing.assert_close(together.maps[i : i + 1], alone.maps, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(backwards.scores[4 - i], alone.scores[0], rtol=1e-4, atol=0)


def test_repeatable(case: tuple[str, dict[str, object]], detector: Detector) -> None:
    torch.manual_seed(99)  # the global generator decides nothing
    again, other = fit(*case), fit(*case, seed=1)
    batch = pictures(3, seed=1)
    assert same(again(batch), detector(batch))
    assert not same(other(batch), detector(batch))
    assert same(detector(batch), detector(batch))


def test_sealed(detector: Detector, tmp_path: Path) -> None:
    bundle = save_detector(
        Registry(tmp_path),
        "model",
        detector,
        preprocessing=Preprocessing(size=SIZE),
        data_fingerprint="none",
        n_train=24,
    )
    again = load_detector(bundle)
    assert again.settings == detector.settings
    saved, learned = again.state_dict(), detector.state_dict()
    assert saved.keys() == learned.keys()
    assert all(saved[key].dtype == learned[key].dtype and torch.equal(saved[key], learned[key]) for key in saved)
    batch = pictures(3, seed=1)
    assert same(again(batch), detector(batch))


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_finite(detector: Detector, value: float) -> None:
    for batch in (torch.full_like(pictures(2, 0), value), pictures(2, 1).round()):
        detection = detector(batch)
        assert bool(detection.maps.isfinite().all())
        assert bool(detection.scores.isfinite().all())


@pytest.mark.parametrize("count", [1, 4])
def test_shapes_and_types(detector: Detector, count: int) -> None:
    width, height = SIZE
    detection = detector(pictures(count, 1))
    assert detection.maps.shape == ((count, height, width) if detector.pixel_maps else (count, 1, 1))
    assert detection.scores.shape == (count,)
    assert detection.maps.dtype == detection.scores.dtype == torch.float32


def test_higher_is_more_anomalous(detector: Detector) -> None:
    good, bad = pictures(4, seed=1), pictures(4, seed=1)
    bad[:, :, 8:24, 16:32] = 1.0
    assert bool((detector(bad).scores > detector(good).scores).all())


def test_input_is_left_alone(detector: Detector) -> None:
    batch = pictures(2, seed=1)
    before = batch.clone()
    detector(batch)
    assert torch.equal(batch, before)


def test_declared(detector: Detector) -> None:
    assert detector_class(detector.name) is type(detector)
    assert detector.paper
    assert isinstance(detector.settings, Settings)
    assert detector.parameter_count() > 0
    assert count_macs(detector) > 0


def streams(name: str) -> bool:
    """Whether a detector learns in one pass, in memory that does not grow; those that train keep images on disk."""
    cls = detector_class(name)
    return cls.streaming and not issubclass(cls, TrainedDetector)


STREAM = """
import resource, sys
import structlog, torch
from inference.detectors import detector_class
from inference.detectors.backbones import Backbone
from inference.weights import load_backbone_weights

torch.set_num_threads(1)
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
name, given, batches = sys.argv[1], sys.argv[2], int(sys.argv[3])
cls = detector_class(name)
detector = cls(cls.settings_class.model_validate_json(given))
for module in detector.modules():
    if isinstance(module, Backbone):
        load_backbone_weights(module, "random")
width, height = detector.settings.image_size
class Noise:
    fingerprint = "noise"

    def __len__(self):
        return 8 * batches

    def stream(self):
        return (torch.rand(8, 3, height, width) for _ in range(batches))


detector.fit(Noise(), lambda done, total: None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("name", [name for name in DETECTORS if streams(name)])
def test_streaming(name: str) -> None:
    """Four times the images take no more memory; kept, their images alone would be 94 MB more."""
    cls = detector_class(name)
    given = cls.settings_class.model_validate({**SMALL[name][0], "image_size": (128, 128)}).model_dump_json()

    def peak(batches: int) -> int:
        command = [sys.executable, "-c", STREAM, name, given, str(batches)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([".", *sys.path])}
        ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=150, env=environment)
        return int(ended.stdout)

    few, many = peak(20), peak(80)
    assert many < 1.05 * few


def test_unknown_detectors_are_told_what_there_is() -> None:
    with pytest.raises(InferenceError, match=r"no detector 'patchcore': choose one of .*padim"):
        detector_class("patchcore")
