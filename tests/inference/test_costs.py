"""Costs: counted by hand, counted on a real run, and the same without one."""

import resource

import pytest
import torch
import torch.nn.functional as F
from structlog.testing import capture_logs
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from inference.detectors import DETECTORS, detector_class
from inference.detectors.backbones import Backbone
from inference.detectors.base import Detection, Detector, Progress, Settings, TrainingImages
from inference.detectors.costs import TYPICAL_IMAGES, Costs, count_costs, count_macs
from inference.detectors.gallery import Gallery
from inference.weights import load_backbone_weights


class Toy(Detector):
    """One of each operator, on images 16 wide and 8 high."""

    name = "toy"
    paper = "none"

    def __init__(self, *, backbone: bool = False) -> None:
        super().__init__()
        self.settings = Settings(image_size=(16, 8))
        self.backbone = Backbone("resnet18", ["layer1"]) if backbone else None
        self.strided = nn.Conv2d(3, 4, 3, stride=2, padding=1)  # [4, 4, 8]
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.transposed = nn.ConvTranspose2d(4, 5, 2, stride=2)  # [5, 8, 16]
        self.norm = nn.BatchNorm2d(5)
        self.linear = nn.Linear(5, 7)
        self.frozen = nn.Linear(7, 2).requires_grad_(requires_grad=False)
        self.register_buffer("learned", torch.ones(7, 7))

    def fit(self, images: TrainingImages, progress: Progress) -> None:
        raise NotImplementedError

    def forward(self, images: Tensor) -> Detection:
        if self.backbone is not None:
            self.backbone(images)
        x = F.relu(self.norm(self.transposed(self.grouped(self.strided(images)))))
        rows = self.linear(x.flatten(2).mT)  # [B, 128, 7]
        rows = torch.einsum("bnc,cd->bnd", rows, self.get_buffer("learned"))
        gram = rows.mT @ rows  # [B, 7, 7]
        scores = self.frozen(gram).flatten(1).topk(3).values.sum(1)
        return Detection(maps=x.mean(1), scores=scores)


def by_hand() -> dict[str, int]:
    return {
        "strided": 4 * 3 * 9 * (4 * 8),
        "grouped": 4 * 2 * 9 * (4 * 8),
        "transposed": 4 * 5 * 4 * (4 * 8),
        "linear": 5 * 7 * 128,
        "einsum": 7 * 7 * 128,
        "gram": 7 * 7 * 128,
        "frozen": 7 * 2 * 7,
    }


def weights_by_hand() -> tuple[int, int, int]:
    """Learn by gradients, do not, and are statistics."""
    learn = (4 * 27 + 4) + (4 * 18 + 4) + (4 * 5 * 4 + 5) + (5 + 5) + (5 * 7 + 7)
    return learn, 7 * 2 + 2, 49 + (5 + 5 + 1)


def test_a_detector_without_backbone_is_all_head() -> None:
    learn, fixed, statistics = weights_by_hand()
    macs, parameters = sum(by_hand().values()), learn + fixed + statistics
    assert count_costs(Toy()) == Costs(macs, macs, parameters, parameters, learn)


def test_the_backbone_is_told_from_the_head() -> None:
    toy = Toy(backbone=True)
    stem, layer1 = 64 * 3 * 49 * (8 * 4), 4 * 64 * 64 * 9 * (4 * 2)
    whole, alone = count_costs(toy), count_costs(Toy())
    assert whole.macs - whole.head_macs == stem + layer1
    assert whole.head_macs == alone.macs
    assert whole.head_parameters == alone.parameters
    assert whole.parameters == toy.parameter_count()
    assert whole.trainable_parameters == alone.trainable_parameters


def test_the_detector_is_left_as_it_is() -> None:
    toy = Toy(backbone=True).train()
    before = {key: tensor.clone() for key, tensor in toy.state_dict().items()}
    assert count_macs(toy) == count_costs(toy).macs
    assert toy.training
    assert toy.norm.training
    assert all(torch.equal(tensor.nan_to_num(), before[key].nan_to_num()) for key, tensor in toy.state_dict().items())


@pytest.mark.parametrize("name", list(DETECTORS))
def test_counted_without_values_as_on_a_real_run(name: str) -> None:
    cls = detector_class(name)
    detector = cls(cls.settings_class.model_validate({"image_size": (96, 64)}))
    with capture_logs():
        for module in detector.modules():
            if isinstance(module, Backbone):
                load_backbone_weights(module, "random")
            if isinstance(module, Gallery):
                module.begin(3)
                module.rows.zero_()
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        detector.eval()(torch.rand(1, 3, 64, 96))
    costs = count_costs(detector)
    assert 2 * costs.macs == counter.get_total_flops() > 0
    assert costs.parameters == detector.parameter_count()
    assert costs.head_macs <= costs.macs


def test_the_size_of_the_image_costs_no_memory() -> None:
    """The first layer alone would make 3 GiB of this one."""
    cls = detector_class("msflow")
    profile = dict(cls.settings_class.paper_profile) | {"image_size": (8192, 8192)}
    detector = cls(cls.settings_class.model_validate(profile))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    costs = count_costs(detector)
    assert costs.head_macs > 14e6 * 256**2  # each weight once per cell
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


def test_an_empty_gallery_counts_as_a_typical_one() -> None:
    cls = detector_class("spade")
    detector = cls(cls.settings_class.model_validate({"image_size": (64, 64), "neighbours": 5}))
    costs = count_costs(detector)
    cells = {16 * 16: 64, 8 * 8: 128, 4 * 4: 256}  # of layers 1 to 3, and their channels
    search = sum(5 * n * n * channels for n, channels in cells.items()) + TYPICAL_IMAGES * 256
    maps = sum(64 * n * n + 64 * n * 64 for n in (16, 8, 4))  # one product for the rows, one for the columns
    assert costs.head_macs == search + maps
    kept = TYPICAL_IMAGES * (256 + sum(n * channels for n, channels in cells.items()))
    assert kept <= costs.head_parameters < 1.01 * kept


@pytest.mark.parametrize(("subfeatures", "millions"), [(2, 9.42), (4, 14.06), (6, 15.74), (8, 16.43)])
def test_msflow_has_the_size_of_its_papers_table_6(subfeatures: int, millions: float) -> None:
    cls = detector_class("msflow")
    profile = dict(cls.settings_class.paper_profile) | {"subfeatures": subfeatures}
    costs = count_costs(cls(cls.settings_class.model_validate(profile)))
    assert costs.trainable_parameters / 1e6 == pytest.approx(millions, rel=0.005)
    if subfeatures == 4:  # table 4
        assert costs.head_macs / 1e9 == pytest.approx(8.1, rel=0.005)
