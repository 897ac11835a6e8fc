"""The hinge loss with spectral normalisation (Miyato et al. 2018, arXiv:1802.05957).

Adam's settings are the paper's setting C (table 1). Spectral normalisation replaces BatchNorm in the
discriminator; with ``disc_norm`` it can be had under other losses, and this loss without it.
"""

from __future__ import annotations

import torch.nn.functional as F
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
    judged,
    scores,
)


def d(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 16: D pushes real scores above 1 and fake ones below -1, and no further."""
    real, fake = scores(nets, batch, draw)
    return judged(F.relu(1 - real).mean() + F.relu(1 + fake).mean(), real, fake)


def g(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 17: G maximises E D(G(z))."""
    loss = -nets["disc"](nets["gen"](draw["z"])).mean()
    return loss, {"g_loss": loss}


@card(paper="Miyato et al., Spectral Normalization for GANs, arXiv:1802.05957", year=2018)
def hinge(
    data: DataSpec,
    *,
    net: Net = "mlp",
    disc_norm: DiscNorm = "spectral",
    prior: Prior = "normal",
    latent_dim: LatentDim = 100,
    n_critic: NCritic = 1,
    lr: LearningRate = 2e-4,
    beta1: Beta1 = 0.5,
    beta2: Beta2 = 0.999,
    batch_size: BatchSize = 64,
) -> Gan:
    """The hinge loss on a spectrally normalised discriminator."""
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
