"""The laws of invertible maps: the inverse, the determinant, the density."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from inference.detectors.base import seeded
from inference.detectors.flows import ChainFlow, group_sizes
from inference.errors import InferenceError


def made(channels: int, *, subfeatures: int, kernels: tuple[int, ...], hidden: int = 8, seed: int = 0) -> ChainFlow:
    """A flow as training leaves it: with every gamma away from 0."""
    with seeded(seed):
        flow = ChainFlow(channels, subfeatures=subfeatures, hidden=hidden, kernels=kernels).double()
        for name, parameter in flow.named_parameters():
            if name.endswith("gamma"):
                parameter.detach().uniform_(-3, 3)
    return flow


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@st.composite
def flows(draw: st.DrawFn) -> tuple[ChainFlow, Tensor]:
    channels = draw(st.integers(2, 11))
    seed = draw(st.integers(0, 2**31))
    kernels = tuple(draw(st.lists(st.sampled_from([1, 3, 5]), min_size=1, max_size=4)))
    flow = made(channels, subfeatures=draw(st.integers(2, channels)), kernels=kernels, seed=seed)
    shape = (draw(st.integers(1, 3)), channels, draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    return flow, noise(*shape, seed=seed)


@given(flows())
@settings(deadline=None, max_examples=60)
def test_the_inverse_undoes_the_flow(case: tuple[ChainFlow, Tensor]) -> None:
    flow, x = case
    with torch.no_grad():
        z, log_det = flow(x)
        assert z.shape == x.shape
        assert log_det.shape == x.shape[:1]
        assert float((flow.inverse(z) - x).abs().max()) < 1e-5
        again, _ = flow(flow.inverse(x))
        assert float((again - x).abs().max()) < 1e-5


@pytest.mark.parametrize("subfeatures", [2, 3, 4])
def test_float32_is_exact_enough(subfeatures: int) -> None:
    flow = made(12, subfeatures=subfeatures, kernels=(3, 3, 3, 5)).float()
    x = noise(4, 12, 6, 6).float()
    with torch.no_grad():
        z, _ = flow(x)
        assert float((flow.inverse(z) - x).abs().max()) < 1e-5


@given(st.integers(2, 6), st.data())
@settings(deadline=None, max_examples=15)
def test_the_determinant_is_the_jacobians(channels: int, data: st.DataObject) -> None:
    subfeatures = data.draw(st.integers(2, channels))
    flow = made(channels, subfeatures=subfeatures, kernels=(3, 5), seed=data.draw(st.integers(0, 1000)))
    x = noise(1, channels, 2, 2, seed=channels)
    jacobian = torch.autograd.functional.jacobian(lambda one: flow(one)[0].flatten(), x)
    expected = torch.linalg.slogdet(jacobian.reshape(x.numel(), x.numel())).logabsdet
    torch.testing.assert_close(flow(x)[1][0], expected, rtol=1e-9, atol=1e-9)


def test_densities_integrate_to_one() -> None:
    flow = made(2, subfeatures=2, kernels=(1, 3, 1), seed=3)
    edge, steps = 20.0, 800
    line = torch.linspace(-edge, edge, steps, dtype=torch.float64)
    points = torch.cartesian_prod(line, line).view(-1, 2, 1, 1)
    with torch.no_grad():
        z, log_det = flow(points)
    log_density = log_det - 0.5 * z.square().sum(dim=(1, 2, 3)) - math.log(2 * math.pi)
    assert float(log_density.max() - log_density.median()) > 1  # a density of its own, not a flat one
    assert float(log_density.exp().sum()) * (2 * edge / (steps - 1)) ** 2 == pytest.approx(1, abs=1e-3)


def test_samples_have_the_density_the_flow_gives_them() -> None:
    """Change of variables: the mean of x² under the density equals that of `inverse(z)²` for normal z."""
    flow = made(2, subfeatures=2, kernels=(1, 1), seed=5)
    with torch.no_grad():
        sampled = flow.inverse(noise(200_000, 2, 1, 1)).square().mean(0).flatten()
        line = torch.linspace(-20, 20, 800, dtype=torch.float64)
        points = torch.cartesian_prod(line, line).view(-1, 2, 1, 1)
        z, log_det = flow(points)
        density = (log_det - 0.5 * z.square().sum(dim=(1, 2, 3))).exp()
    expected = (points.flatten(1).square() * density[:, None]).sum(0) / density.sum()
    torch.testing.assert_close(sampled, expected, rtol=0.03, atol=0)


def test_an_untrained_flow_only_permutes() -> None:
    with seeded(0):
        flow = ChainFlow(6, subfeatures=3, hidden=4, kernels=(3, 3))
    x = noise(2, 6, 3, 3).float()
    z, log_det = flow(x)
    assert torch.equal(z.sort(dim=1).values, x.sort(dim=1).values)
    assert not torch.equal(z, x)
    assert torch.equal(log_det, torch.zeros(2))


def test_groups_look_further_along_the_chain() -> None:
    """Level i of a block sees (i - 1)(k - 1) + 1 cells across."""
    flow = made(4, subfeatures=4, kernels=(3,))
    x = noise(1, 4, 1, 15).requires_grad_()
    y, _ = flow(x)
    for i in range(4):
        (gradient,) = torch.autograd.grad(y[0, i, 0, 7], x, retain_graph=True)
        assert int((gradient.abs().sum(dim=(0, 1, 2)) > 0).sum()) == 2 * i + 1


def test_what_explodes_stays_finite() -> None:
    flow = made(4, subfeatures=2, kernels=(3,) * 4).float()
    z, _ = flow(torch.full((1, 4, 3, 3), 1e30))
    assert bool(z.square().sum().isfinite())


def test_coupling_keeps_its_precision_under_autocast() -> None:
    flow = made(8, subfeatures=4, kernels=(3, 3)).float()
    x = noise(2, 8, 4, 4).float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        z, log_det = flow(x)
    assert z.dtype == log_det.dtype == torch.float32
    assert z[:, :, 0, 0].ne(z[:, :, 0, 0].bfloat16()).any()


def test_group_sizes() -> None:
    assert group_sizes(304, 6) == [50, 51, 51, 51, 51, 50]
    assert group_sizes(304, 8) == [38] * 8
    assert group_sizes(5, 3) == [1, 2, 2]
    for wrong in (1, 5):
        with pytest.raises(InferenceError, match=f"4 channels make no {wrong} sub-features: choose 2 to 4"):
            group_sizes(4, wrong)


@pytest.mark.parametrize(("subfeatures", "millions"), [(2, 9.42), (4, 14.06), (6, 15.74), (8, 16.43)])
def test_parameters_are_the_papers(subfeatures: int, millions: float) -> None:
    """Tables 4 and 6: EfficientNet-B5 at 768 pixels, 304 x 24 x 24."""
    with torch.device("meta"):
        flow = ChainFlow(304, subfeatures=subfeatures, hidden=1024, kernels=(3, 3, 3, 5))
    count = sum(p.numel() for p in flow.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=5e-3)
    if subfeatures == 4:
        counter = FlopCounterMode(display=False)
        with counter:
            flow(torch.empty(1, 304, 24, 24, device="meta"))
        assert counter.get_total_flops() / 2e9 == pytest.approx(8.1, rel=5e-3)
