"""WGAN-GP: a critic kept 1-Lipschitz by a gradient penalty (Gulrajani et al. 2017, arXiv:1704.00028).

Algorithm 1 with its defaults: λ = 10, five critic steps, Adam 1e-4 with β = (0, 0.9), batches of 64.
The critic has no BatchNorm (section 4): the penalty is on each example's own gradient.

On points in the plane λ is 0.1, as in the authors' own code for such data: with 10 it took more than 1,800
iterations until any sample was near a mode.

Deviations from Lucic et al.'s code: there β2 is 0.999. There pixels lie in [0, 1], so slopes are twice as
large as here, with pixels in [-1, 1]; and the slope is √(0.0001 + ‖∇D‖²).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from baselines.checks import at_least
from baselines.family import SetupWithoutNorm, Training, gan
from baselines.gan import Batch, DataSpec, Draw, Gan, Log, Nets, Uniform, card
from baselines.groups import grouped
from baselines.wgan import g


def gradient_norm(score: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """‖∇ₓ score(x)‖₂ of each example: (B,). ``score`` must map each example on its own."""
    gradient: Tensor = torch.func.grad(lambda x: score(x).sum())(x)
    norm: Tensor = torch.linalg.vector_norm(gradient, dim=(1, 2, 3))
    return norm


def d(nets: Nets, batch: Batch, draw: Draw, penalty: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Algorithm 1, lines 4 to 7: E D(x̃) - E D(x) + λ E (‖∇D(x̂)‖₂ - 1)², x̂ = ε x + (1 - ε) x̃."""
    real, fake = batch["image"], nets["gen"](draw["z"])
    between = draw["mix"] * real + (1 - draw["mix"]) * fake
    slope = gradient_norm(nets["disc"], between)
    distance = nets["disc"](real).mean() - nets["disc"](fake).mean()
    loss = -distance + penalty * (slope - 1).square().mean()
    return loss, {"d_loss": loss, "slope": slope.mean()}


@card(
    paper="Gulrajani et al., Improved Training of Wasserstein GANs, arXiv:1704.00028",
    year=2017,
    on_points={"penalty": 0.1},
)
@grouped
def wgan_gp(
    data: DataSpec,
    *,
    setup: SetupWithoutNorm = SetupWithoutNorm(n_critic=5),
    penalty: Annotated[float, Log(0.1, 100.0)] = 10.0,
    training: Training = Training(lr=1e-4, beta1=0.0, beta2=0.9),
) -> Gan:
    """``penalty``: λ."""
    at_least(0, penalty=penalty)
    model = gan(data, partial(d, penalty=penalty), g, setup, training, threshold=None)
    return replace(model, noise={**model.noise, "mix": Uniform((1, 1, 1))})
