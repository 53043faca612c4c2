"""SPADE against its paper, by brute force in numpy and float64."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from structlog.testing import capture_logs
from torch import Tensor

from inference.detectors.gallery import Gallery
from inference.detectors.spade import Spade, SpadeSettings
from inference.errors import FitError, InferenceError, WeightsError
from inference.weights import load_backbone_weights
from tests.inference.tensors import Tensors

SIZE = (48, 32)  # width, height


def ignore(_done: int, _total: int, _note: str = "", /) -> None:
    """Nobody watches the progress."""


def images(count: int, seed: int) -> Tensor:
    width, height = SIZE
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def fitted(train: Tensor, **settings: object) -> Spade:
    detector = Spade(SpadeSettings(image_size=SIZE, **settings))
    with capture_logs():
        load_backbone_weights(detector.backbone, "random")
    detector.fit(Tensors(train, 5), ignore)
    return detector.eval()


def reference(detector: Spade, train: Tensor, test: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Maps and image scores by sections 3.1 to 3.3 of the paper."""
    settings = detector.settings
    width, height = SIZE
    *learned, learned_last = [f.double().numpy() for f in detector.backbone(train)]
    *judged, judged_last = [f.double().numpy() for f in detector.backbone(test)]
    pooled = learned_last.mean((2, 3))
    maps, scores = [], []
    for b in range(len(test)):
        distances = np.linalg.norm(pooled - judged_last[b].mean((1, 2)), axis=1)
        retrieved = np.argsort(distances)[: settings.neighbours]
        scores.append(distances[retrieved].mean())
        levels = []
        for known, asked in zip(learned, judged, strict=True):
            gallery = known[retrieved].transpose(0, 2, 3, 1).reshape(-1, known.shape[1])
            queries = asked[b].transpose(1, 2, 0)
            apart = np.linalg.norm(queries[:, :, None] - gallery, axis=3)
            grid = np.sort(apart, axis=2)[:, :, : settings.kappa].mean(2)
            upsampled = torch.nn.functional.interpolate(
                torch.from_numpy(grid)[None, None], size=(height, width), mode="bicubic", align_corners=False
            )
            levels.append(gaussian_filter(upsampled[0, 0].numpy(), settings.sigma))
        maps.append(np.mean(levels, axis=0))
    return np.stack(maps), np.array(scores)


@pytest.mark.parametrize(("neighbours", "kappa"), [(5, 1), (3, 4), (50, 1)])
def test_maps_and_scores_are_the_papers(neighbours: int, kappa: int) -> None:
    """Also where K exceeds the number of training images: then all are neighbours."""
    train, test = images(12, 0), images(3, 1) * 0.7
    detector = fitted(train, neighbours=neighbours, kappa=kappa)
    maps, scores = reference(detector, train, test)
    detection = detector(test)
    np.testing.assert_allclose(detection.maps.numpy(), maps, rtol=1e-4)
    np.testing.assert_allclose(detection.scores.numpy(), scores, rtol=1e-4)
    of_maps = fitted(train, neighbours=neighbours, kappa=kappa, score="map")(test)
    np.testing.assert_allclose(of_maps.scores.numpy(), maps.max((1, 2)), rtol=1e-4)
    assert torch.equal(of_maps.maps, detection.maps)


def test_a_training_image_is_no_distance_from_itself() -> None:
    train = images(9, 0)
    detection = fitted(train, neighbours=1)(train[4:5])
    assert float(detection.scores) < 1e-4
    assert float(detection.maps.max()) < 1e-4


def test_a_defect_is_found_where_it_is() -> None:
    detector = fitted(images(30, 0) * 0.2 + 0.4, sigma=2.0)
    bad = images(1, 5) * 0.2 + 0.4
    good = bad.clone()
    bad[:, :, 18:30, 4:16] = torch.rand(1, 3, 1, 1, generator=torch.Generator().manual_seed(2))
    both = detector(torch.cat([good, bad]))
    assert both.scores[1] > both.scores[0]
    row, column = divmod(int(both.maps[1].argmax()), SIZE[0])
    assert row >= 14
    assert column < 20


def test_half_precision_halves_the_model_and_hardly_moves_a_score() -> None:
    train, test = images(12, 0), images(4, 1)
    whole, half = fitted(train), fitted(train, storage="float16")
    galleries = [key for key in whole.state_dict() if key.endswith("rows")]
    assert len(galleries) == 4
    for key in galleries:
        assert half.state_dict()[key].dtype == torch.float16
        assert torch.equal(half.state_dict()[key], whole.state_dict()[key].half())
    torch.testing.assert_close(half(test).scores, whole(test).scores, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("backbone", "last"), [("resnet18", "layer3"), ("wide_resnet50_2", "layer4"), ("efficientnet_b5", "features.7")]
)
def test_layers_follow_the_backbone_and_are_saved(backbone: str, last: str) -> None:
    settings = SpadeSettings(backbone=backbone, image_size=(32, 32))
    assert settings.image_layer == last
    assert len(settings.layers) == 3
    assert SpadeSettings.model_validate(settings.model_dump(mode="json")) == settings
    assert Spade(settings).images.rows.shape[1] == Spade(settings).backbone.taps[-1].channels


def test_the_papers_setting_is_that_of_the_comparison() -> None:
    paper = SpadeSettings.model_validate(SpadeSettings.paper_profile)
    assert (paper.backbone, paper.image_layer, paper.neighbours, paper.kappa) == ("wide_resnet50_2", "layer4", 50, 1)
    assert (paper.image_size, paper.sigma, paper.score) == ((224, 224), 4.0, "image")


def test_fewer_images_than_announced_leave_no_empty_rows() -> None:
    class Short(Tensors):
        def __len__(self) -> int:
            return len(self.images) + 3

    detector = Spade(SpadeSettings(image_size=SIZE))
    with capture_logs():
        load_backbone_weights(detector.backbone, "random")
    detector.fit(Short(images(6, 0)), ignore)
    assert len(detector.images) == 6
    assert all(bool(tensor.isfinite().all()) for tensor in detector.state_dict().values())


def test_too_few_images_are_refused() -> None:
    with pytest.raises(FitError, match="at least 2 good images, got 1"):
        fitted(images(1, 0))


def test_fitting_without_weights_is_refused() -> None:
    with pytest.raises(WeightsError, match="resnet18 has no weights yet"):
        Spade(SpadeSettings(image_size=SIZE)).fit(Tensors(images(4, 0)), ignore)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(InferenceError, match="images are 64x64, the model's are 48x32"):
        fitted(images(4, 0))(torch.rand(1, 3, 64, 64))


def test_a_gallery_takes_the_length_it_is_given() -> None:
    gallery, empty = Gallery(2, 3, storage="float16"), Gallery(2, 3, storage="float16")
    assert bool(gallery.rows.isnan().all())
    gallery.begin(5)
    gallery.put(0, torch.rand(3, 2, 3))
    gallery.end(3)
    empty.load_state_dict(gallery.state_dict())
    assert torch.equal(empty.rows, gallery.rows)
    with pytest.raises(RuntimeError, match="size mismatch for rows"):
        Gallery(2, 4).load_state_dict(gallery.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        Gallery(2, 3).load_state_dict({})


def test_a_gallery_refuses_what_it_cannot_hold() -> None:
    gallery = Gallery(2, storage="float16")
    gallery.begin(2)
    with pytest.raises(FitError, match="do not fit in float16: set storage=float32"):
        gallery.put(0, torch.tensor([[1.0, 1e6]]))
    with pytest.raises(FitError, match="a gallery for 2 images was given 3"):
        gallery.put(1, torch.zeros(2, 2))
