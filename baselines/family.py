"""What the loss family shares: networks, hyperparameters, and how they become a model.

A member of the family is two losses and its defaults. The networks: ``mlp`` are those of ``vanilla``,
``conv`` those of ``dcgan`` without dropout, ``infogan`` those of Lucic et al. (2018).

Deviation from Lucic et al.'s code: every update draws its own batch, with replacement, and its own noise.
There, batches come in shuffled order, and G's update reuses the noise of D's, except in WGAN-GP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
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
DiscNorm = Literal["own", "batch", "none", "spectral"]


# ---------------------------------------------------------------- hyperparameters


@dataclass(frozen=True)
class Setup:
    """The networks, their noise, and how often D is updated."""

    net: Net = "mlp"
    disc_norm: DiscNorm = "own"
    """Normalisation of the discriminator. ``own``: BatchNorm in ``conv`` and ``infogan``, none in ``mlp``."""
    prior: Prior = "normal"
    """Of z: N(0, 1), or U(-1, 1) as in Lucic et al."""
    latent_dim: Annotated[int, Log(16, 256)] = 100
    n_critic: Annotated[int, Choice((1, 2, 5))] = 1
    """Discriminator updates per generator update."""


@dataclass(frozen=True)
class SetupWithoutNorm(Setup):
    """For a gradient penalty: it takes each example's own gradient, and BatchNorm mixes the examples."""

    disc_norm: DiscNorm = field(default="none", init=False)


@dataclass(frozen=True)
class Training:
    """The optimizer's numbers and the batch size."""

    lr: Annotated[float, Log(1e-5, 1e-2)] = 2e-4
    beta1: Annotated[float, Linear(0.0, 0.9)] = 0.5
    beta2: Annotated[float, Linear(0.9, 0.999)] = 0.999
    batch_size: Annotated[int, Log(32, 512)] = 64

    def adam(self) -> Adam:
        """Adam with these numbers.

        Raises:
            ValueError: Adam cannot work with one of them.
        """
        positive(lr=self.lr)
        fraction(beta1=self.beta1, beta2=self.beta2)
        return Adam(self.lr, (self.beta1, self.beta2))


# ---------------------------------------------------------------- networks


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
            disc.insert(4, nn.BatchNorm1d(256, eps=1e-3, momentum=0.2))  # after the second dense layer
    return spectral_norm(disc) if norm == "spectral" else disc


def generator(net: Net, latent_dim: int, data: DataSpec) -> nn.Sequential:
    """z (B, latent_dim) -> images (B, C, H, W) in [-1, 1]."""
    if net == "conv":
        return dcgan.generator(latent_dim, (128, 64), data)
    if net == "infogan":
        return infogan.generator(latent_dim, data)
    return vanilla.generator(latent_dim, (256, 512, 1024), data)


# ---------------------------------------------------------------- losses and model


def scores(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, Tensor]:
    """The discriminator's scores (B,) of the data and (B,) of fresh samples, all in training mode."""
    return nets["disc"](batch["image"]), nets["disc"](nets["gen"](draw["z"]))


def judged(
    loss: Tensor, real: Tensor, fake: Tensor, threshold: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """A discriminator's loss and its logs: a score above ``threshold`` means "real"."""
    logs = {"d_loss": loss, "d_acc_real": share(real > threshold), "d_acc_fake": share(fake <= threshold)}
    return loss, logs


def gan(
    data: DataSpec,
    d: Loss,
    g: Loss,
    setup: Setup,
    training: Training,
    *,
    optim: Optimizer | None = None,
    threshold: float | None = 0.0,
    project: Callable[[Tensor], object] | None = None,
) -> Gan:
    """A member of the loss family: ``n_critic`` updates of D, then one of G.

    ``optim``: in place of Adam. ``threshold``: of D's score, see :class:`baselines.gan.Gan`.
    ``project``: applied to D's parameters after each step.

    Raises:
        ValueError: a hyperparameter makes no sense, or the network does not fit the images.
    """
    net, latent_dim = setup.net, setup.latent_dim
    optim = optim or training.adam()
    if net != "mlp":
        multiples_of(4, data)
    at_least(1, latent_dim=latent_dim, n_critic=setup.n_critic)
    at_least(2, batch_size=training.batch_size)
    z: Noise = Normal((latent_dim,)) if setup.prior == "normal" else Uniform((latent_dim,), -1.0, 1.0)
    return Gan(
        build=lambda: {
            "gen": generator(net, latent_dim, data),
            "disc": discriminator(net, setup.disc_norm, data),
        },
        noise={"z": z},
        updates=(Update("disc", d, project),) * setup.n_critic + (Update("gen", g),),
        generate=lambda nets, batch, draw: nets["gen"].eval(draw["z"]),
        discriminate=lambda nets, batch: nets["disc"].eval(batch["image"]),
        optim={"gen": optim, "disc": optim},
        batch_size=training.batch_size,
        threshold=threshold,
    )
