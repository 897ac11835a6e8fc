"""LSGAN: least squares instead of cross-entropy (Mao et al. 2016, arXiv:1611.04076).

Adam's settings are the paper's for handwritten characters. Lucic et al.'s code compares the sigmoids of
the scores instead (``sigmoid=true``).
"""

from __future__ import annotations

from functools import partial

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


def d(nets: Nets, batch: Batch, draw: Draw, sigmoid: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 9, the 0-1 coding: D pulls real scores to 1 and fake ones to 0."""
    real, fake = scores(nets, batch, draw)
    if sigmoid:
        real, fake = real.sigmoid(), fake.sigmoid()
    return judged(0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean(), real, fake, threshold=0.5)


def g(nets: Nets, batch: Batch, draw: Draw, sigmoid: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 9: G pulls the scores of its samples to 1."""
    fake = nets["disc"](nets["gen"](draw["z"]))
    loss = 0.5 * ((fake.sigmoid() if sigmoid else fake) - 1).square().mean()
    return loss, {"g_loss": loss}


@card(paper="Mao et al., Least Squares Generative Adversarial Networks, arXiv:1611.04076", year=2016)
def lsgan(
    data: DataSpec,
    *,
    net: Net = "mlp",
    disc_norm: DiscNorm = "own",
    prior: Prior = "normal",
    latent_dim: LatentDim = 100,
    n_critic: NCritic = 1,
    sigmoid: bool = False,
    lr: LearningRate = 2e-4,
    beta1: Beta1 = 0.5,
    beta2: Beta2 = 0.999,
    batch_size: BatchSize = 64,
) -> Gan:
    """Scores are not probabilities: 0.5 lies halfway between the two targets. ``sigmoid``: least
    squares of the scores' sigmoids."""
    return gan(
        data,
        partial(d, sigmoid=sigmoid),
        partial(g, sigmoid=sigmoid),
        net=net,
        disc_norm=disc_norm,
        prior=prior,
        latent_dim=latent_dim,
        n_critic=n_critic,
        optim=adam(lr, beta1, beta2),
        batch_size=batch_size,
        threshold=0.0 if sigmoid else 0.5,  # of the score itself
    )
