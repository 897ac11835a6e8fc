"""The networks that the loss family shares, and the hyperparameters that all its members declare.

``mlp``: those of ``vanilla``. ``conv``: those of ``dcgan``, without dropout. ``infogan``: Lucic et al.'s.

Deviation from Lucic et al.'s code: every update has a batch of its own, drawn with replacement, and noise of
its own. There batches come in shuffled order, and G's update reuses the noise of D's, but for WGAN-GP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from torch import Tensor, nn

from baselines import dcgan, infogan, vanilla
from baselines.checks import at_least, fraction, multiples_of, positive
from baselines.gan import (
    Adam,
    Batch,
    Choice,
    DataSpec,
    Draw,
    Gan,
    Linear,
    Log,
    Loss,
    Nets,
    Noise,
    Normal,
    Optimizer,
    Uniform,
    Update,
)
from baselines.layers import spectral_norm
from baselines.vanilla import share

Net = Literal["mlp", "conv", "infogan"]
Prior = Literal["normal", "uniform"]
"""Of z: N(0, 1), or U(-1, 1) as in Lucic et al."""
DiscNorm = Literal["own", "batch", "none", "spectral"]
"""In the discriminator. ``own``: as the networks have it: BatchNorm in conv and infogan, none in mlp."""
LatentDim = Annotated[int, Log(16, 256)]
NCritic = Annotated[int, Choice((1, 2, 5))]
"""Discriminator updates per generator update."""
LearningRate = Annotated[float, Log(1e-5, 1e-2)]
Beta1 = Annotated[float, Linear(0.0, 0.9)]
Beta2 = Annotated[float, Linear(0.9, 0.999)]
BatchSize = Annotated[int, Log(32, 512)]


def discriminator(net: Net, norm: DiscNorm, data: DataSpec) -> nn.Sequential:
    """Images (B, C, H, W) -> a score (B,). BatchNorm skips the first layer, as in DCGAN."""
    batch = norm == "batch" or (norm == "own" and net != "mlp")
    if net == "conv":
        disc = dcgan.discriminator((32, 64, 128, 256), data, dropout=0.0, norm=batch)
    elif net == "infogan":
        disc = infogan.discriminator(data, norm=batch)
    else:
        disc = vanilla.discriminator((512, 256), data)
        if batch:
            disc.insert(4, nn.BatchNorm1d(256, eps=1e-3, momentum=0.2))  # behind the second dense layer
    return spectral_norm(disc) if norm == "spectral" else disc


def generator(net: Net, latent_dim: int, data: DataSpec) -> nn.Sequential:
    """z (B, latent_dim) -> images (B, C, H, W) in [-1, 1]."""
    if net == "conv":
        return dcgan.generator(latent_dim, (128, 64), data)
    if net == "infogan":
        return infogan.generator(latent_dim, data)
    return vanilla.generator(latent_dim, (256, 512, 1024), data)


def scores(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, Tensor]:
    """The discriminator's scores (B,) of the data and (B,) of fresh samples, all in training mode."""
    return nets["disc"](batch["image"]), nets["disc"](nets["gen"](draw["z"]))


def judged(
    loss: Tensor, real: Tensor, fake: Tensor, threshold: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """A discriminator's loss with its logs: scores above ``threshold`` say "real"."""
    logs = {"d_loss": loss, "d_acc_real": share(real > threshold), "d_acc_fake": share(fake <= threshold)}
    return loss, logs


def adam(lr: float, beta1: float, beta2: float) -> Adam:
    """Adam, or ``ValueError`` for what it cannot work with."""
    positive(lr=lr)
    fraction(beta1=beta1, beta2=beta2)
    return Adam(lr, (beta1, beta2))


def gan(
    data: DataSpec,
    d: Loss,
    g: Loss,
    *,
    net: Net,
    disc_norm: DiscNorm,
    prior: Prior,
    latent_dim: int,
    n_critic: int,
    optim: Optimizer,
    batch_size: int,
    threshold: float | None = 0.0,
    project: Callable[[Tensor], object] | None = None,
) -> Gan:
    """A member of the loss family: ``n_critic`` updates of D and one of G, on one of the networks.

    Raises:
        ValueError: a hyperparameter makes no sense, or the network does not fit the images.
    """
    if net != "mlp":
        multiples_of(4, data)
    at_least(1, latent_dim=latent_dim, n_critic=n_critic)
    at_least(2, batch_size=batch_size)
    z: Noise = Normal((latent_dim,)) if prior == "normal" else Uniform((latent_dim,), -1.0, 1.0)
    return Gan(
        build=lambda: {
            "gen": generator(net, latent_dim, data),
            "disc": discriminator(net, disc_norm, data),
        },
        noise={"z": z},
        updates=(Update("disc", d, project),) * n_critic + (Update("gen", g),),
        generate=lambda nets, batch, draw: nets["gen"].eval(draw["z"]),
        discriminate=lambda nets, batch: nets["disc"].eval(batch["image"]),
        optim={"gen": optim, "disc": optim},
        batch_size=batch_size,
        threshold=threshold,
    )
