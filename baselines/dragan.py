"""DRAGAN: a gradient penalty around the data (Kodali et al. 2017, arXiv:1705.07215).

λ = 10, k = 1. Noise around the data as in the authors' code, which Lucic et al. use as well:
half the batch's standard deviation times U(0, 1) per pixel, a random share of the way per example,
where the paper's text writes N(0, c I). The paper gives no optimizer: Adam with DCGAN's settings. No
BatchNorm in the discriminator: the penalty is on each example's own gradient.

Deviation from Lucic et al.'s code: slopes per pixel in [-1, 1]; there they are per pixel in [0, 1], twice as
large, and √(0.0001 + ‖∇D‖²).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated

from torch import Tensor

from baselines.checks import at_least
from baselines.gan import Batch, DataSpec, Draw, Gan, Log, Nets, Uniform, card
from baselines.networks import (
    BatchSize,
    Beta1,
    Beta2,
    LatentDim,
    LearningRate,
    NCritic,
    Net,
    Prior,
    adam,
    gan,
    judged,
)
from baselines.nsgan import g
from baselines.vanilla import cross_entropy
from baselines.wgan_gp import gradient_norm


def d(nets: Nets, batch: Batch, draw: Draw, penalty: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Section 2.4: the GAN's loss + λ E (‖∇D(x + δ)‖₂ - 1)², D the probability of "real"."""
    image = batch["image"]
    near = image + draw["mix"] * 0.5 * image.std() * draw["noise"]
    slope = gradient_norm(lambda x: nets["disc"](x).sigmoid(), near)
    real, fake = nets["disc"](image), nets["disc"](nets["gen"](draw["z"]))
    loss = cross_entropy(real, real=True) + cross_entropy(fake, real=False)
    loss, logs = judged(loss + penalty * (slope - 1).square().mean(), real, fake)
    return loss, {**logs, "slope": slope.mean()}


@card(paper="Kodali et al., On Convergence and Stability of GANs, arXiv:1705.07215", year=2017)
def dragan(
    data: DataSpec,
    *,
    net: Net = "mlp",
    prior: Prior = "normal",
    latent_dim: LatentDim = 100,
    n_critic: NCritic = 1,
    penalty: Annotated[float, Log(0.1, 100.0)] = 10.0,
    lr: LearningRate = 2e-4,
    beta1: Beta1 = 0.5,
    beta2: Beta2 = 0.999,
    batch_size: BatchSize = 64,
) -> Gan:
    """``penalty``: λ."""
    at_least(0, penalty=penalty)
    model = gan(
        data,
        partial(d, penalty=penalty),
        g,
        net=net,
        disc_norm="none",
        prior=prior,
        latent_dim=latent_dim,
        n_critic=n_critic,
        optim=adam(lr, beta1, beta2),
        batch_size=batch_size,
    )
    return replace(model, noise={**model.noise, "mix": Uniform((1, 1, 1)), "noise": Uniform(data.shape)})
