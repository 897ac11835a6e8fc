"""WGAN: the Wasserstein distance through a clipped critic (Arjovsky et al. 2017, arXiv:1701.07875).

Algorithm 1 with its defaults: RMSprop 5e-5, clipping at 0.01, five critic steps, batches of 64.
A critic's score has no threshold for "real", so no accuracy is logged.

By default the critic has no BatchNorm. Clipping would bound BatchNorm's scale too, and with a scale of 0.01
the signal of convolutional critics vanishes (their loss stays below 1e-11). Lucic et al. train with Adam
(``optimizer=adam``) and search over BatchNorm.
"""

from __future__ import annotations

from typing import Annotated, Literal

from torch import Tensor

from baselines.checks import positive
from baselines.family import Setup, Training, gan, scores
from baselines.gan import Batch, DataSpec, Draw, Gan, Log, Nets, RMSprop, card
from baselines.groups import grouped


def d(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Algorithm 1, line 5: the critic maximises E D(x) - E D(G(z))."""
    real, fake = scores(nets, batch, draw)
    loss = fake.mean() - real.mean()
    return loss, {"d_loss": loss}


def g(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Algorithm 1, line 10: G maximises E D(G(z))."""
    loss = -nets["disc"](nets["gen"](draw["z"])).mean()
    return loss, {"g_loss": loss}


@card(paper="Arjovsky et al., Wasserstein GAN, arXiv:1701.07875", year=2017)
@grouped
def wgan(
    data: DataSpec,
    *,
    setup: Setup = Setup(disc_norm="none", n_critic=5),
    clip: Annotated[float, Log(1e-3, 1.0)] = 0.01,
    optimizer: Literal["rmsprop", "adam"] = "rmsprop",
    training: Training = Training(lr=5e-5),
) -> Gan:
    """``clip``: bound of the critic's weights. ``optimizer``: the paper's RMSprop, or Adam with ``beta1`` and
    ``beta2``, as in Lucic et al."""
    positive(lr=training.lr, clip=clip)
    return gan(
        data,
        d,
        g,
        setup,
        training,
        optim=RMSprop(training.lr) if optimizer == "rmsprop" else training.adam(),
        threshold=None,
        project=lambda weight: weight.clamp_(-clip, clip),
    )
