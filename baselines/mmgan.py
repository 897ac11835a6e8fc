"""MMGAN: the minimax GAN, whose generator loss saturates (Goodfellow et al. 2014, arXiv:1406.2661).

Only G's loss differs from ``nsgan``.
"""

from __future__ import annotations

from torch import Tensor

from baselines.gan import Batch, DataSpec, Draw, Gan, Nets, card
from baselines.networks import (
    BatchSize,
    Beta1,
    Beta2,
    DiscNorm,
    LatentDim,
    LearningRate,
    NCritic,
    Net,
    Prior,
    adam,
    gan,
)
from baselines.nsgan import d
from baselines.vanilla import cross_entropy


def g(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 1: G minimises E log(1 - D(G(z)))."""
    loss = -cross_entropy(nets["disc"](nets["gen"](draw["z"])), real=False)
    return loss, {"g_loss": loss}


@card(paper="Goodfellow et al., Generative Adversarial Nets, equation 1, arXiv:1406.2661", year=2014)
def mmgan(
    data: DataSpec,
    *,
    net: Net = "mlp",
    disc_norm: DiscNorm = "own",
    prior: Prior = "normal",
    latent_dim: LatentDim = 100,
    n_critic: NCritic = 1,
    lr: LearningRate = 2e-4,
    beta1: Beta1 = 0.5,
    beta2: Beta2 = 0.999,
    batch_size: BatchSize = 64,
) -> Gan:
    """The saturating GAN."""
    return gan(
        data,
        d,
        g,
        net=net,
        disc_norm=disc_norm,
        prior=prior,
        latent_dim=latent_dim,
        n_critic=n_critic,
        optim=adam(lr, beta1, beta2),
        batch_size=batch_size,
    )
