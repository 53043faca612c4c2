"""The VAE: its parts against their definitions, and that it learns to draw what is good."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter
from structlog.testing import capture_logs
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torchvision import models

from inference.detectors.residual import Decoder, Encoder
from inference.detectors.trained import Training
from inference.detectors.vae import Vae, VaeSettings
from inference.errors import InferenceError
from tests.inference.tensors import Tensors

SIZE = (48, 32)  # width, height
QUICK = {"image_size": SIZE, "width": 4, "latent": 4, "epochs": 2, "batch": 8}


def ignore(_done: int, _total: int, _note: str = "", /) -> None:
    """Nobody watches the progress."""


def plates(count: int, seed: int) -> Tensor:
    """A bright square on dark ground, brighter and darker, with a little noise."""
    width, height = SIZE
    generator = torch.Generator().manual_seed(seed)
    images = torch.full((count, 3, height, width), 0.2)
    images[:, :, 8:24, 12:36] = 0.6 + 0.3 * torch.rand(count, 1, 1, 1, generator=generator)
    return images + 0.02 * torch.rand(images.shape, generator=generator)


def fitted(train: Tensor, **settings: object) -> Vae:
    detector = Vae(VaeSettings.model_validate({**QUICK, **settings}))
    with capture_logs():
        detector.fit(Tensors(train), ignore)
    return detector


def test_the_encoder_is_resnet18() -> None:
    encoder = Encoder(64)
    network = models.resnet18(weights=None)
    trunk = nn.Sequential(*list(network.children())[:-2])
    shapes = [tensor.shape for tensor in trunk.state_dict().values()]
    assert [tensor.shape for tensor in encoder.state_dict().values()] == shapes
    encoder.load_state_dict(dict(zip(encoder.state_dict(), trunk.state_dict().values(), strict=True)))
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(encoder.eval()(images), trunk.eval()(images))


def test_the_decoder_mirrors_it() -> None:
    """As deep, as wide, and back at the size of the image: 8x8 cells for 256 pixels."""
    encoder, decoder = Encoder(64), Decoder(64)
    with torch.no_grad():
        features = encoder.eval()(torch.zeros(1, 3, 256, 256))
        assert features.shape == (1, 512, 8, 8)
        assert decoder.eval()(features).shape == (1, 3, 256, 256)
    weights = [sum(p.numel() for p in part.parameters()) for part in (encoder, decoder)]
    assert weights[0] == 11_176_512
    assert 0.085e9 < 4 * sum(weights) < 0.095e9  # the paper reports 0.09 GB
    strides = [m.stride[0] for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert strides == [2, 2, 2, 2]


@pytest.mark.parametrize("size", [(48, 32), (33, 65), (100, 32), (31, 17)])
def test_any_size_is_drawn_again(size: tuple[int, int]) -> None:
    width, height = size
    detector = Vae(VaeSettings.model_validate({**QUICK, "image_size": size})).eval()
    with torch.no_grad():
        images = torch.rand(2, 3, height, width)
        mean, log_variance = detector.encode(images)
        assert mean.shape == log_variance.shape == (2, 4, -(-height // 32), -(-width // 32))
        assert detector.decode(mean).shape == images.shape
        assert detector(images).maps.shape == (2, height, width)


def test_the_loss_is_squared_error_and_divergence() -> None:
    detector = Vae(VaeSettings.model_validate({**QUICK, "kl_weight": 0.5})).eval()
    images = plates(3, 0)
    with torch.no_grad():
        found = detector.loss((images,), torch.Generator().manual_seed(7))
        mean, log_variance = detector.encode(images)
        posterior = Normal(mean, torch.exp(0.5 * log_variance))
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(7))
        error = (detector.decode(posterior.mean + posterior.stddev * noise) - images).square().sum()
        expected = error + 0.5 * kl_divergence(posterior, Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(found * images.numel(), expected, rtol=1e-5, atol=0)


def test_maps_are_the_smoothed_squared_error_of_the_mean() -> None:
    detector = fitted(plates(12, 0))
    images = plates(3, 1)
    with torch.no_grad():
        detection = detector(images)
        error = (detector.decode(detector.encode(images)[0]) - images).square().mean(1).double().numpy()
    expected = np.stack([gaussian_filter(each, 4.0) for each in error])
    np.testing.assert_allclose(detection.maps.numpy(), expected, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(detection.scores.numpy(), expected.max((1, 2)), rtol=1e-4)
    averaging = Vae(detector.settings.model_copy(update={"score": "mean"})).eval()
    averaging.load_state_dict(detector.state_dict())
    with torch.no_grad():
        np.testing.assert_allclose(averaging(images).scores.numpy(), expected.mean((1, 2)), rtol=1e-4)


def test_a_defect_cannot_be_drawn() -> None:
    detector = fitted(plates(32, 0), width=8, epochs=30, learning_rate=3e-3, sigma=1.0)
    good, bad = plates(6, 1), plates(6, 1)
    bad[:, 0, 12:18, 16:22] = 0.0
    with torch.no_grad():
        passed, found = detector(good), detector(bad)
    assert float(passed.maps.mean()) < float(plates(32, 0).var(0).mean()) + 0.01
    assert bool((found.scores > passed.scores).all())
    rows, columns = found.maps.flatten(1).argmax(1) // SIZE[0], found.maps.flatten(1).argmax(1) % SIZE[0]
    assert bool(((rows >= 10) & (rows < 20) & (columns >= 14) & (columns < 24)).all())


def moved(images: Tensor, numbers: list[int], epoch: int = 0, **settings: object) -> Tensor:
    detector = Vae(VaeSettings.model_validate({**QUICK, **settings}))
    (samples,) = detector.samples(Tensors(images), Training(), ignore).take(numbers, epoch)
    return samples


def test_images_are_moved_by_seed_epoch_and_number_alone() -> None:
    images = torch.rand(6, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    whole = moved(images, [0, 1, 2, 3])
    assert torch.equal(moved(images, [2, 0]), whole[[2, 0]])
    for other in (moved(images, [0, 1, 2, 3], epoch=1), moved(images, [0, 1, 2, 3], seed=1)):
        assert not torch.equal(other, whole)
    torch.testing.assert_close(moved(images, [0, 5], rotation=0, shift=0), images[[0, 5]], rtol=0, atol=1e-5)


def test_images_are_turned_and_shifted_rigidly() -> None:
    """In pixels, also of images that are not square: nothing is stretched, and nothing moves further than asked."""
    ramp = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij"))  # row, column
    images = torch.cat([ramp, torch.zeros(1, 64, 96)])[None].repeat(8, 1, 1, 1)
    turned = moved(images, list(range(8)), image_size=(96, 64), rotation=10, shift=0)[:, :2, 24:40, 40:56]
    down, across = turned.diff(dim=2), turned.diff(dim=3)
    np.testing.assert_allclose(down.square().sum(1).numpy(), 1, atol=1e-3)  # steps stay one pixel long
    np.testing.assert_allclose(across.square().sum(1).numpy(), 1, atol=1e-3)
    np.testing.assert_allclose((down[..., :-1] * across[:, :, :-1]).sum(1).numpy(), 0, atol=1e-3)
    angles = torch.atan2(across[:, 0], across[:, 1])[:, 0, 0].rad2deg()
    assert 3 < float(angles.abs().max()) <= 10.001
    shifted = moved(images, list(range(8)), image_size=(96, 64), rotation=0, shift=0.05)
    away = (shifted - images)[:, :2, 16:48, 16:80].mean((2, 3))
    assert 1 < float(away[:, 0].abs().max()) <= 0.05 * 64 + 1e-3
    assert 1 < float(away[:, 1].abs().max()) <= 0.05 * 96 + 1e-3


def test_a_killed_training_ends_as_one_that_was_left_alone(tmp_path: Path) -> None:
    """Running means of the batch normalisations and all."""
    whole, killed = fitted(plates(20, 0), epochs=4), Vae(VaeSettings.model_validate({**QUICK, "epochs": 4}))
    training = Training(checkpoint=tmp_path / "vae.checkpoint", every_s=0.0)

    def kill(done: int, _total: int, _note: str = "", /) -> None:
        if done > 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed.fit(Tensors(plates(20, 0)), kill, training=training)
    resumed = Vae(killed.settings)
    with capture_logs() as logs:
        resumed.fit(Tensors(plates(20, 0)), ignore, training=training)
    assert any("goes on" in entry["event"] for entry in logs)
    for key, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], tensor), key


def test_judging_is_left_to_no_chance() -> None:
    detector = fitted(plates(12, 0))
    images = plates(2, 1)
    torch.manual_seed(1)
    first = detector(images).scores
    torch.manual_seed(2)
    assert torch.equal(detector(images).scores, first)


def test_the_papers_setting_is_the_authors() -> None:
    paper = VaeSettings.model_validate(VaeSettings.paper_profile)
    assert (paper.image_size, paper.width) == ((256, 256), 64)
    assert (paper.epochs, paper.batch, paper.learning_rate, paper.rotation) == (100, 32, 1e-4, 2.0)
    assert paper.shift * 292 == pytest.approx(5)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"latent": 0}, {"batch": 1}, {"shift": 1.0}, {"score": "median"}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        VaeSettings.model_validate(wrong)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(InferenceError, match="images are 64x64, the model's are 48x32"):
        Vae(VaeSettings.model_validate(QUICK))(torch.rand(1, 3, 64, 64))
