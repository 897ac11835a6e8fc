"""R3GAN: a relativistic loss with two gradient penalties (Huang et al. 2024, arXiv:2501.05441).

Each generated image is compared with a real one, and D is penalised for steep slopes at both: R1 at real
images, R2 at generated ones. The networks are the family's, so that the loss alone is compared. The
discriminator has no BatchNorm: the penalties are on each example's own gradient.

Defaults are the values with which the authors' code (brownvc/R3GAN) begins: Adam 2e-4 with β = (0, 0.9),
64 normal numbers as noise. γ depends on the images there: 0.05 for CIFAR-10, 0.5 and 1 for ImageNet of 32×32
and 64×64, 2 for FFHQ of 64×64; here it is 1.

Deviations: there the networks are ResNets without normalisation, with grouped convolutions. Over the first
2·10⁷ images the learning rate falls to a quarter and γ to a tenth, β2 rises to 0.99, and the decay of the
average of G's weights grows; here all are constant, and ``ema`` and ``decay`` are off unless they are set.
There batches have 256 images or more, and there is adaptive augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from baselines.checks import at_least
from baselines.family import SetupWithoutNorm, Training, gan, scores
from baselines.gan import Batch, DataSpec, Draw, Gan, Log, Nets, card
from baselines.groups import grouped
from baselines.penalties import scores_and_slopes


@dataclass(frozen=True)
class SetupWithoutR1(SetupWithoutNorm):
    """R1 is part of the loss."""

    r1: float = field(default=0.0, init=False)


def d(nets: Nets, batch: Batch, draw: Draw, gamma: float) -> tuple[Tensor, dict[str, Tensor]]:
    """E softplus(-(D(x) - D(G(z)))) + γ/2 (E ‖∇D(x)‖² + E ‖∇D(G(z))‖²), over pairs of x and G(z)."""
    real, r1 = scores_and_slopes(nets["disc"], batch["image"])
    fake, r2 = scores_and_slopes(nets["disc"], nets["gen"](draw["z"]))
    loss = F.softplus(fake - real).mean() + gamma / 2 * (r1.mean() + r2.mean())
    return loss, {"d_loss": loss, "r1": r1.mean(), "r2": r2.mean()}


def g(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """E softplus(-(D(G(z)) - D(x))): each generated image should look more real than a real one."""
    real, fake = scores(nets, batch, draw)
    loss = F.softplus(real - fake).mean()
    return loss, {"g_loss": loss}


@card(paper="Huang et al., The GAN is dead; long live the GAN!, arXiv:2501.05441", year=2024)
@grouped
def r3gan(
    data: DataSpec,
    *,
    setup: SetupWithoutR1 = SetupWithoutR1(latent_dim=64),
    gamma: Annotated[float, Log(0.01, 100.0)] = 1.0,
    training: Training = Training(beta1=0.0, beta2=0.9),
) -> Gan:
    """``gamma``: γ. A score of D means something only beside another, so there is no threshold."""
    at_least(0, gamma=gamma)
    return gan(data, partial(d, gamma=gamma), g, setup, training, threshold=None)
