"""The loss family: models that share networks and hyperparameters, and differ in their losses.

A model of the family is two losses and its defaults. Networks: ``mlp`` is that of ``vanilla``, ``conv`` that
of ``dcgan`` without dropout, ``infogan`` that of Lucic et al. (2018).

Each model of the family can have a zero-centred gradient penalty (``r1``), images changed at random for D
(``augment``), and a learning rate of its own for D (``d_lr``).

Deviation from Lucic et al.'s code: every update draws its own batch, with replacement, and its own noise.
There, batches come in shuffled order, and G's update reuses the noise of D's update, except in WGAN-GP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Literal

from torch import Tensor, nn

from baselines import augment, dcgan, infogan, vanilla
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
    RMSprop,
    Uniform,
    Unsearched,
    Update,
)
from baselines.layers import spectral_norm
from baselines.penalties import with_r1
from baselines.vanilla import share

Net = Literal["mlp", "conv", "infogan"]
Prior = Literal["normal", "uniform"]
DiscNorm = Literal["own", "batch", "none", "spectral"]
Augment = Literal["none", "diffaugment"]


# ---------------------------------------------------------------- hyperparameters


@dataclass(frozen=True)
class Setup:
    """Networks, noise, and the number of D updates."""

    net: Net = "mlp"
    """On points in the plane only ``mlp``, with two layers of 128 units in each network."""
    disc_norm: DiscNorm = "own"
    """Normalisation of the discriminator. ``own``: BatchNorm in ``conv`` and ``infogan``, none in ``mlp``."""
    prior: Prior = "normal"
    """Distribution of z: N(0, 1), or U(-1, 1) as in Lucic et al."""
    latent_dim: Annotated[int, Log(16, 256)] = 100
    n_critic: Annotated[int, Choice((1, 2, 5))] = 1
    """Discriminator updates per generator update."""
    r1: float = 0.0
    """γ of the penalty γ/2 · E ‖∇D(x)‖² on real images (R1, Mescheder et al. 2018). 0: there is none."""
    augment: Annotated[Augment, Unsearched()] = "none"
    """Whether D sees images changed at random (DiffAugment, Zhao et al. 2020)."""


@dataclass(frozen=True)
class SetupWithoutNorm(Setup):
    """For gradient penalties. They need each example's own gradient, and BatchNorm mixes the examples."""

    disc_norm: DiscNorm = field(default="none", init=False)


@dataclass(frozen=True)
class Training:
    """Adam's hyperparameters and the batch size."""

    lr: Annotated[float, Log(1e-5, 1e-2)] = 2e-4
    beta1: Annotated[float, Linear(0.0, 0.9)] = 0.5
    beta2: Annotated[float, Linear(0.9, 0.999)] = 0.999
    batch_size: Annotated[int, Log(32, 512)] = 64
    d_lr: float | None = None
    """The discriminator's learning rate (TTUR, Heusel et al. 2017, arXiv:1706.08500). None: ``lr``."""

    def adam(self) -> Adam:
        """Adam with these hyperparameters.

        Raises:
            ValueError: one of them is out of range.
        """
        positive(lr=self.lr)
        fraction(beta1=self.beta1, beta2=self.beta2)
        return Adam(self.lr, (self.beta1, self.beta2))

    def of_disc(self, optim: Adam | RMSprop) -> Adam | RMSprop:
        """The discriminator's optimizer: ``optim`` with the learning rate ``d_lr``, where there is one.

        Raises:
            ValueError: ``d_lr`` is out of range.
        """
        if self.d_lr is None:
            return optim
        positive(d_lr=self.d_lr)
        return replace(optim, lr=self.d_lr)


# ---------------------------------------------------------------- networks

POINTS_WIDTHS = (128, 128)
"""Hidden layers of both networks of ``mlp`` where the data are points in the plane."""


def has_batch_norm(net: Net, norm: DiscNorm) -> bool:
    """Whether the discriminator has BatchNorm."""
    return norm == "batch" or (norm == "own" and net != "mlp")


def discriminator(net: Net, norm: DiscNorm, data: DataSpec) -> nn.Sequential:
    """Images (B, C, H, W) -> a score (B,). BatchNorm skips the first layer, as in DCGAN."""
    batch = has_batch_norm(net, norm)
    if net == "conv":
        disc = dcgan.discriminator((32, 64, 128, 256), data, dropout=0.0, norm=batch)
    elif net == "infogan":
        disc = infogan.discriminator(data, norm=batch)
    else:
        widths = POINTS_WIDTHS if data.points else (512, 256)
        disc = vanilla.discriminator(widths, data)
        if batch:
            disc.insert(4, nn.BatchNorm1d(widths[1], eps=1e-3, momentum=0.2))  # after the second dense layer
    return spectral_norm(disc) if norm == "spectral" else disc


def generator(net: Net, latent_dim: int, data: DataSpec) -> nn.Sequential:
    """z (B, latent_dim) -> images (B, C, H, W) in [-1, 1], or points (B, 2, 1, 1) anywhere in the plane."""
    if net == "conv":
        return dcgan.generator(latent_dim, (128, 64), data)
    if net == "infogan":
        return infogan.generator(latent_dim, data)
    return vanilla.generator(latent_dim, POINTS_WIDTHS if data.points else (256, 512, 1024), data)


# ---------------------------------------------------------------- losses and model


def scores(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, Tensor]:
    """D's scores (B,) of real images and (B,) of generated ones, all in training mode."""
    return nets["disc"](batch["image"]), nets["disc"](nets["gen"](draw["z"]))


def judged(
    loss: Tensor, real: Tensor, fake: Tensor, threshold: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """D's loss with its logs. A score above ``threshold`` means "real"."""
    logs = {"d_loss": loss, "d_acc_real": share(real > threshold), "d_acc_fake": share(fake <= threshold)}
    return loss, logs


def around(outer: Callable[..., tuple[Tensor, Mapping[str, Tensor]]], loss: Loss, **numbers: float) -> Loss:
    """The loss ``outer(loss, …)`` with these numbers, and with those of ``loss``, if that is a ``partial``.

    All numbers are keywords of one ``partial``, so the lanes of a stack may differ in each (``lanes.py``).
    """
    if isinstance(loss, partial):
        return partial(outer, partial(loss.func, *loss.args), **loss.keywords, **numbers)
    return partial(outer, loss, **numbers)


def refuse_batch_norm(setup: Setup) -> None:
    """Raise ``ValueError`` if D has BatchNorm, with which no example has a gradient of its own."""
    if has_batch_norm(setup.net, setup.disc_norm):
        raise ValueError(
            f"r1={setup.r1} needs each example's own gradient, and BatchNorm in the discriminator mixes the "
            f"examples (net={setup.net}, disc_norm={setup.disc_norm}); set disc_norm to none or spectral"
        )


def gan(
    data: DataSpec,
    d: Loss,
    g: Loss,
    setup: Setup,
    training: Training,
    *,
    optim: Adam | RMSprop | None = None,
    threshold: float | None = 0.0,
    project: Callable[[Tensor], object] | None = None,
) -> Gan:
    """A model of the loss family. One iteration: ``n_critic`` updates of D, then one of G.

    Args:
        d: D's loss.
        g: G's loss.
        optim: replaces Adam.
        threshold: of D's score, see :class:`baselines.gan.Gan`.
        project: applied in place to D's parameters after each step.

    Raises:
        ValueError: a hyperparameter is out of range, or the networks do not fit the images.
    """
    net, latent_dim = setup.net, setup.latent_dim
    optim = optim or training.adam()
    if net != "mlp":
        multiples_of(4, data)
    at_least(1, latent_dim=latent_dim, n_critic=setup.n_critic)
    at_least(2, batch_size=training.batch_size)
    at_least(0, r1=setup.r1)
    if setup.r1:
        refuse_batch_norm(setup)
        d = around(with_r1, d, r1=setup.r1)
    z: Noise = Normal((latent_dim,)) if setup.prior == "normal" else Uniform((latent_dim,), -1.0, 1.0)
    noise = {"z": z}
    if setup.augment == "diffaugment":
        augment.refuse_small(data)
        d, g = (around(augment.augmented, loss, coloured=data.channels == 3) for loss in (d, g))
        noise[augment.NAME] = augment.NOISE
    return Gan(
        build=lambda: {
            "gen": generator(net, latent_dim, data),
            "disc": discriminator(net, setup.disc_norm, data),
        },
        noise=noise,
        updates=(Update("disc", d, project),) * setup.n_critic + (Update("gen", g),),
        generate=lambda nets, batch, draw: nets["gen"].eval(draw["z"]),
        discriminate=lambda nets, batch: nets["disc"].eval(batch["image"]),
        optim={"gen": optim, "disc": training.of_disc(optim)},
        batch_size=training.batch_size,
        threshold=threshold,
    )
