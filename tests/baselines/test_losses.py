"""Losses on known scores, and gradient penalties, against their equations.

B examples, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines import dragan, hinge, lsgan, mmgan, nsgan, registry, wgan, wgan_gp
from baselines.gan import DataSpec, Loss, Nets
from baselines.probe import Plain

DIGITS = DataSpec(1, 8, 8, 10)


def stack(tensors: dict[str, Tensor], n: int = 2) -> dict[str, Tensor]:
    return {key: torch.stack([value.detach().clone()] * n) for key, value in tensors.items()}


# ---------------------------------------------------------------- losses on known scores


class Scores:
    """A discriminator that gives the scores it was told, real ones first."""

    def __init__(self, *scores: Tensor) -> None:
        self.scores = list(scores)

    def __call__(self, images: Tensor, *rest: Tensor) -> Tensor:
        return self.scores.pop(0)

    eval = __call__


def evaluate(loss: Loss, *scores: Tensor) -> tuple[float, dict[str, float]]:
    gen = Plain(nn.Identity())
    nets: Any = {"gen": gen, "disc": Scores(*scores)}
    value, logs = loss(nets, {"image": torch.zeros(3)}, {"z": torch.zeros(3)})
    return value.item(), {key: log.item() for key, log in logs.items()}


REAL, FAKE = torch.tensor([2.0, -1.0, 0.7]), torch.tensor([0.3, -2.0, -0.1])
R, FK = REAL.double().numpy(), FAKE.double().numpy()


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("module", "d", "g"),
    [
        (nsgan, -np.log(sigmoid(R)).mean() - np.log(1 - sigmoid(FK)).mean(), -np.log(sigmoid(FK)).mean()),
        (mmgan, -np.log(sigmoid(R)).mean() - np.log(1 - sigmoid(FK)).mean(), np.log(1 - sigmoid(FK)).mean()),
        (lsgan, 0.5 * ((R - 1) ** 2).mean() + 0.5 * (FK**2).mean(), 0.5 * ((FK - 1) ** 2).mean()),
        (wgan, FK.mean() - R.mean(), -FK.mean()),
        (hinge, np.maximum(0, 1 - R).mean() + np.maximum(0, 1 + FK).mean(), -FK.mean()),
    ],
    ids=["nsgan", "mmgan", "lsgan", "wgan", "hinge"],
)
def test_losses_are_their_equations(module: Any, d: float, g: float) -> None:
    value, logs = evaluate(module.d, REAL, FAKE)
    assert value == pytest.approx(d, rel=1e-6)
    assert logs["d_loss"] == value
    if module is not wgan:
        threshold = 0.5 if module is lsgan else 0.0
        assert logs["d_acc_real"] == pytest.approx((threshold < R).mean())
        assert logs["d_acc_fake"] == pytest.approx((threshold >= FK).mean())
    value, logs = evaluate(module.g, FAKE)
    assert value == pytest.approx(g, rel=1e-6)
    assert logs == {"g_loss": value}


def test_lsgan_may_compare_the_sigmoids_of_its_scores() -> None:
    gan = registry.get("lsgan")(DIGITS, sigmoid=True)
    real, fake = sigmoid(R), sigmoid(FK)
    value, logs = evaluate(gan.updates[0].loss, REAL, FAKE)
    assert value == pytest.approx(0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean(), rel=1e-6)
    assert gan.threshold == 0
    assert logs["d_acc_real"] == pytest.approx((R > 0).mean())
    assert logs["d_acc_fake"] == pytest.approx((FK <= 0).mean())
    value, _ = evaluate(gan.updates[1].loss, FAKE)
    assert value == pytest.approx(0.5 * ((fake - 1) ** 2).mean(), rel=1e-6)


# ---------------------------------------------------------------- gradient penalties


def smooth_nets() -> tuple[Nets, nn.Module]:
    """A small generator and a smooth discriminator in float64, so that finite differences are exact."""
    torch.manual_seed(0)
    gen = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Unflatten(1, (1, 2, 2))).double()
    disc = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0)).double()
    return {"gen": Plain(gen), "disc": Plain(disc)}, disc


def penalty_inputs() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    rng = torch.Generator().manual_seed(1)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(6, *shape, dtype=torch.float64, generator=rng)

    batch = {"image": 2 * uniform(1, 2, 2) - 1}
    return batch, {"z": uniform(3), "mix": uniform(1, 1, 1), "noise": uniform(1, 2, 2)}


@pytest.mark.parametrize("module", [wgan_gp, dragan], ids=["wgan_gp", "dragan"])
def test_penalised_losses_are_differentiated_rightly(module: Any) -> None:
    nets, disc = smooth_nets()
    batch, draw = penalty_inputs()

    def loss() -> Tensor:
        value: Tensor = module.d(nets, batch, draw, penalty=10.0)[0]
        return value

    params = list(disc.parameters())
    grads = torch.autograd.grad(loss(), params)
    for param, grad in zip(params, grads, strict=True):
        for i in range(param.numel()):
            value = param.data.view(-1)[i].item()
            sides = []
            for step in (1e-5, -1e-5):
                param.data.view(-1)[i] = value + step
                sides.append(loss().item())
            param.data.view(-1)[i] = value
            assert grad.view(-1)[i].item() == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-7, rel=1e-7)


def test_wgan_gp_critic_loss_is_the_papers() -> None:
    """Gulrajani et al. 2017, equation 3, with PyTorch's own double backward."""
    nets, disc = smooth_nets()
    batch, draw = penalty_inputs()
    real, fake, epsilon = batch["image"], nets["gen"](draw["z"]).detach(), draw["mix"]
    between = (epsilon * real + (1 - epsilon) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(disc(between).sum(), between)
    norm = slope.pow(2).sum((1, 2, 3)).sqrt()
    expected = disc(fake).mean() - disc(real).mean() + 10 * ((norm - 1) ** 2).mean()
    loss, logs = wgan_gp.d(nets, batch, draw, penalty=10.0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert logs["slope"].item() == pytest.approx(norm.mean().item(), rel=1e-12)


def test_gradient_norm_of_a_linear_score_is_its_weight() -> None:
    weight = torch.randn(1, 3, 3)
    norm = wgan_gp.gradient_norm(lambda x: (x * weight).sum((1, 2, 3)), torch.randn(5, 1, 3, 3))
    assert torch.allclose(norm, weight.norm().expand(5))


def test_dragan_penalty_looks_near_the_data_alone() -> None:
    """x̂ lies between x and x + std/2, whatever the fakes are; D enters as a probability."""
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.sum((1, 2, 3))

    batch, draw = penalty_inputs()
    nets: Any = {"gen": smooth_nets()[0]["gen"], "disc": Plain(Spy())}
    _, logs = dragan.d(nets, batch, draw, penalty=10.0)
    image = batch["image"]
    near = image + draw["mix"] * 0.5 * image.std() * draw["noise"]
    probability = torch.sigmoid(near.sum((1, 2, 3)))
    expected = (probability * (1 - probability) * 2).mean()  # ‖∇ sigmoid(Σx)‖ over four pixels
    assert logs["slope"].item() == pytest.approx(expected.item(), rel=1e-9)
    assert any(torch.equal(x, image) for x in seen)
    _, logs = dragan.d(nets, batch, draw, penalty=10.0, slope="logit")
    assert logs["slope"].item() == pytest.approx(2), "as in the authors' code"
