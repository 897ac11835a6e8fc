"""Layers against their definitions, alone and in a stack: dropout, upsampling, spectral norm.

B examples, C channels, H height, W width.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call

from baselines.layers import Dropout, SpectralNorm, UpConv2d, spectral_norm


def stack(tensors: dict[str, Tensor], n: int = 2) -> dict[str, Tensor]:
    return {key: torch.stack([value.detach().clone()] * n) for key, value in tensors.items()}


# ---------------------------------------------------------------- dropout


def masks(p: float, n: int, calls: int, seed: int = 0) -> Tensor:
    """(calls, n): 1 where an element is kept."""
    torch.manual_seed(seed)
    layer = Dropout(p)
    return torch.stack([(layer(torch.ones(n)) > 0).float() for _ in range(calls)])


@pytest.mark.parametrize("p", [0.1, 0.25, 0.4])
def test_dropout_keeps_the_right_share_and_the_mean(p: float) -> None:
    kept = masks(p, 1000, 1000)
    n = kept.numel()
    assert kept.sum().item() == pytest.approx((1 - p) * n, abs=4 * math.sqrt(n * p * (1 - p)))
    layer = Dropout(p)
    values = layer(torch.ones(1000))
    assert sorted(set(values.tolist())) == [0.0, pytest.approx(1 / (1 - p))]


@pytest.mark.parametrize(
    ("axis", "shift"), [(0, 1), (0, 2), (1, 1), (1, 2), (1, 32), (1, 64)], ids=lambda v: str(v)
)
def test_dropout_masks_are_independent_between_calls_and_units(axis: int, shift: int) -> None:
    kept = masks(0.4, 1024, 512)
    a, b = kept, kept.roll(shift, axis)
    table = [[((a == i) & (b == j)).sum().item() for j in (0, 1)] for i in (0, 1)]
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_dropout_units_and_calls_keep_alike() -> None:
    kept = masks(0.25, 400, 2000)
    for sums, n in ((kept.sum(0), 2000), (kept.sum(1), 400)):  # each unit, each call
        chi2 = ((sums - 0.75 * n) ** 2 / (n * 0.75 * 0.25)).sum().item()
        assert 1e-4 < stats.chi2.sf(chi2, len(sums)) < 1 - 1e-4


def test_dropout_masks_are_independent_between_seeds() -> None:
    a, b = masks(0.4, 1000, 100, seed=1), masks(0.4, 1000, 100, seed=2)
    table = [[((a == i) & (b == j)).sum().item() for j in (0, 1)] for i in (0, 1)]
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_dropout_in_a_stack_is_dropout_alone() -> None:
    torch.manual_seed(0)
    layers = [Dropout(0.3), Dropout(0.3)]
    states = torch.stack([layer.state for layer in layers])
    x = torch.randn(2, 5, 7)
    for _ in range(3):
        alone = torch.stack([layer(x[i]) for i, layer in enumerate(layers)])
        stacked = torch.vmap(lambda state, x: functional_call(layers[0], {"state": state}, (x,)))(states, x)
        assert torch.equal(alone, stacked)
    assert not torch.equal(alone[0] == 0, alone[1] == 0)


def test_dropout_goes_on_from_its_state_and_rests_in_evaluation() -> None:
    layer, x = Dropout(0.5), torch.ones(100)
    layer(x)
    other = Dropout(0.5)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), other(x))
    before = layer.state.clone()
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(layer.state, before)


def test_dropout_passes_the_gradient_of_what_it_keeps() -> None:
    x = torch.ones(50, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


# ---------------------------------------------------------------- upsampling, spectral norm


def test_up_convolution_is_upsampling_and_convolution() -> None:
    torch.manual_seed(0)
    layer = UpConv2d(3, 4).double()
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    reference = F.conv2d(F.interpolate(x, scale_factor=2), layer.weight, layer.bias, padding=1)
    result = layer(x)
    assert torch.allclose(result, reference, atol=1e-12)
    weights = torch.randn_like(reference)
    inputs = (x, *layer.parameters())
    for a, b in zip(
        torch.autograd.grad((result * weights).sum(), inputs),
        torch.autograd.grad((reference * weights).sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("layer", [nn.Linear(7, 5), nn.Conv2d(3, 6, 3)], ids=["linear", "conv"])
def test_spectral_norm_is_the_largest_singular_value(layer: nn.Linear | nn.Conv2d) -> None:
    weight = layer.weight.detach().clone()
    net = spectral_norm(nn.Sequential(layer))
    x = torch.randn(2, 3, 8, 8) if isinstance(layer, nn.Conv2d) else torch.randn(2, 7)
    for _ in range(300):
        net(x)
    expected = weight / torch.linalg.svdvals(weight.flatten(1))[0]
    assert torch.allclose(layer.weight, expected, atol=1e-5)


def test_spectral_norm_makes_one_power_iteration_in_training_alone() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 6)
    norm = SpectralNorm(weight)
    u = norm.u.clone()
    v = weight.T @ u / (weight.T @ u).norm()
    expected = weight @ v / (weight @ v).norm()
    norm.eval()(weight)
    assert torch.equal(norm.u, u)
    norm.train()(weight)
    assert torch.allclose(norm.u, expected, atol=1e-6)


def test_spectral_norm_is_differentiated_through_the_weight_alone() -> None:
    """Miyato et al. 2018, equation 10: d(W/σ) = (G - <G, W/σ> u vᵀ) / σ for an upstream gradient G."""
    torch.manual_seed(0)
    weight = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    norm = SpectralNorm(weight).double().eval()
    upstream = torch.randn(4, 6, dtype=torch.float64)
    (grad,) = torch.autograd.grad((norm(weight) * upstream).sum(), weight)
    w = weight.detach()
    v = F.normalize(w.T @ norm.u, dim=0)
    u = F.normalize(w @ v, dim=0)
    sigma = u @ w @ v
    expected = (upstream - (upstream * w / sigma).sum() * torch.outer(u, v)) / sigma
    assert torch.allclose(grad, expected, atol=1e-12)


def test_spectral_norm_is_float32_within_a_bfloat16_network() -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 20, requires_grad=True)
    norms = [SpectralNorm(weight)]
    norms.append(copy.deepcopy(norms[0]))
    exact = norms[0](weight)
    with torch.autocast("cpu", torch.bfloat16):
        within = norms[1](weight)
    assert within.dtype == torch.float32
    assert torch.equal(within, exact)
    assert torch.equal(norms[0].u, norms[1].u)
    grads = [torch.autograd.grad(normed.square().sum(), weight)[0] for normed in (exact, within)]
    assert torch.equal(*grads)
