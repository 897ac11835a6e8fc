"""The vanilla GAN: fully connected, non-saturating (Goodfellow et al. 2014, arXiv:1406.2661).

Network and procedure are those of the Keras code in the "One Day One GAN" article. Keras's defaults differ
from PyTorch's: BatchNorm momentum 0.8 in Keras is 0.2 in PyTorch, with eps 1e-3; dense layers start with
Glorot-uniform weights and zero bias; Adam's eps is 1e-7.

One iteration: D on a real batch, D on a fake batch (two Adam steps), G through D.

Deviations: the discriminator ends in a logit, and the losses take logits. That is the same function as a
sigmoid followed by cross-entropy, but it does not overflow. PyTorch's Adam adds eps after the bias correction
of the second moment, Keras's before it. In PyTorch's form Keras's eps is eps / √(1 - β2^t): 31.6 eps in the
first step, 10 eps in the tenth, 1.3 eps in the thousandth.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from baselines.checks import at_least, fraction, positive, widths_of
from baselines.gan import Adam, Batch, DataSpec, Draw, Gan, Linear, Log, Nets, Normal, Update, card


def dense(n_in: int, n_out: int) -> nn.Linear:
    """A linear layer initialised as in Keras: Glorot-uniform weights, zero bias."""
    layer = nn.Linear(n_in, n_out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def generator(latent_dim: int, widths: Sequence[int], data: DataSpec) -> nn.Sequential:
    """z (B, latent_dim) -> images (B, C, H, W) in [-1, 1], or points (B, 2, 1, 1) anywhere in the plane.

    Points have no tanh, and no BatchNorm: statistics of a batch blur them by more than the modes are wide.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise((latent_dim, *widths)):
        layers += [dense(n_in, n_out), nn.LeakyReLU(0.2)]
        if not data.points:
            layers.append(nn.BatchNorm1d(n_out, eps=1e-3, momentum=0.2))
    end: list[nn.Module] = [] if data.points else [nn.Tanh()]
    return nn.Sequential(*layers, dense(widths[-1], data.n_pixels), *end, nn.Unflatten(1, data.shape))


def discriminator(widths: Sequence[int], data: DataSpec) -> nn.Sequential:
    """Images (B, C, H, W) -> the logit (B,) that each is real."""
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in pairwise((data.n_pixels, *widths)):
        layers += [dense(n_in, n_out), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, dense(widths[-1], 1), nn.Flatten(0))


def cross_entropy(logit: Tensor, real: bool) -> Tensor:
    """-log D(x) if the target is "real", -log(1 - D(x)) if it is "fake"; mean over the batch."""
    return F.softplus(-logit if real else logit).mean()


def share(right: Tensor) -> Tensor:
    """The fraction of a boolean batch that is true."""
    return right.float().mean()


def d_real(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 1, first term: D should say "real" of the data."""
    logit = nets["disc"](batch["image"])
    loss = cross_entropy(logit, real=True)
    return loss, {"d_loss": loss, "d_acc_real": share(logit > 0)}


def d_fake(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 1, second term: D should say "fake" of samples drawn with moving statistics."""
    logit = nets["disc"](nets["gen"].eval(draw["z"]))
    loss = cross_entropy(logit, real=False)
    return loss, {"d_loss": loss, "d_acc_fake": share(logit <= 0)}


def g(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Section 3, the non-saturating loss: G maximises log D(G(z))."""
    loss = cross_entropy(nets["disc"](nets["gen"](draw["z"])), real=True)
    return loss, {"g_loss": loss}


@card(paper="Goodfellow et al., Generative Adversarial Nets, arXiv:1406.2661", year=2014)
def vanilla(
    data: DataSpec,
    *,
    latent_dim: Annotated[int, Log(16, 256)] = 100,
    g_widths: tuple[int, ...] = (256, 512, 1024),
    d_widths: tuple[int, ...] = (512, 256),
    lr: Annotated[float, Log(1e-5, 1e-2)] = 2e-4,
    beta1: Annotated[float, Linear(0.0, 0.9)] = 0.5,
    beta2: Annotated[float, Linear(0.9, 0.999)] = 0.999,
    batch_size: Annotated[int, Log(32, 512)] = 128,
) -> Gan:
    """The fully connected GAN of 2014, as the article trains it."""
    widths_of(g_widths=g_widths, d_widths=d_widths)
    at_least(1, latent_dim=latent_dim)
    at_least(2, batch_size=batch_size)
    positive(lr=lr)
    fraction(beta1=beta1, beta2=beta2)
    adam = Adam(lr, (beta1, beta2), eps=1e-7)
    return Gan(
        build=lambda: {
            "gen": generator(latent_dim, g_widths, data),
            "disc": discriminator(d_widths, data),
        },
        noise={"z": Normal((latent_dim,))},
        updates=(Update("disc", d_real), Update("disc", d_fake), Update("gen", g)),
        generate=lambda nets, batch, draw: nets["gen"].eval(draw["z"]),
        discriminate=lambda nets, batch: nets["disc"].eval(batch["image"]),
        optim={"gen": adam, "disc": adam},
        batch_size=batch_size,
    )
