"""BEGAN: the discriminator is an autoencoder, in balance with G (Berthelot et al. 2017, arXiv:1703.10717).

D rebuilds its input. L(v) is the mean error |v - D(v)| over the pixels (section 3.1, η = 1). D learns to
rebuild the data well and generated images badly, and G to be rebuilt well. The weight k of D's second aim is
moved so that E L(G(z)) stays at γ E L(x) (section 3.3); γ < 1 trades diversity for quality. The log
``measure`` is M of section 3.4, which falls as training converges.

G is that of the loss family. The autoencoder of ``net=infogan`` is that of Lucic et al. (2018;
google/compare_gan), that of ``net=conv`` is like the paper's, with 3×3 convolutions, ELU and nearest-
neighbour upsampling, and that of ``net=mlp`` is the discriminator of ``vanilla`` and its mirror image. γ,
λ, learning rate and β1 are those of Lucic et al. The paper has γ from 0.3 to 0.7, learning rates from 5e-5
to 1e-4 that it halves when M stalls, and batches of 16.

Deviations from the paper: k moves with L(G(z)) of D's update, not of G's. The paper's G is like its decoder,
without BatchNorm; and both have skip connections, and residuals that vanish (section 3.5). Deviations from
Lucic et al.: they do not keep k within [0, 1], they move it by D's errors after both updates, and their
pixels lie in [0, 1], so that errors and steps of k are half as large.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from baselines import family
from baselines.checks import at_least, multiples_of
from baselines.family import POINTS_WIDTHS, Net, Prior, Training
from baselines.gan import (
    Batch,
    Choice,
    DataSpec,
    Draw,
    Gan,
    Linear,
    Log,
    Nets,
    Noise,
    Normal,
    Uniform,
    Update,
    card,
)
from baselines.groups import grouped
from baselines.infogan import Shrink, Stretch, small_normal
from baselines.layers import UpConv2d, glorot


def autoencoder(net: Net, code_dim: int, data: DataSpec, *, norm: bool) -> nn.Sequential:
    """Images (B, C, H, W) -> the same, through a code of ``code_dim`` numbers. ``norm``: with BatchNorm."""

    def hidden(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
        activation = nn.ELU() if net == "conv" else nn.LeakyReLU(0.2)
        momentum = 1e-3 if net == "infogan" else 0.2
        if not norm:
            return [layer, activation]
        if isinstance(layer, nn.Linear):
            return [layer, nn.BatchNorm1d(layer.out_features, eps=1e-3, momentum=momentum), activation]
        return [layer, nn.BatchNorm2d(layer.out_channels, eps=1e-3, momentum=momentum), activation]

    n, channels, h, w = data.n_pixels, data.channels, data.height // 4, data.width // 4
    if net == "mlp":
        first, second = POINTS_WIDTHS if data.points else (512, 256)
        widths = (n, first, second, code_dim, second, first)
        layers = [m for pair in pairwise(widths) for m in hidden(nn.Linear(*pair))]
        return glorot(nn.Sequential(nn.Flatten(), *layers, nn.Linear(first, n), nn.Unflatten(1, data.shape)))
    if net == "conv":
        return glorot(
            nn.Sequential(
                *hidden(nn.Conv2d(channels, 32, 3, padding=1)),
                *hidden(nn.Conv2d(32, 64, 3, stride=2, padding=1)),  # H/2
                *hidden(nn.Conv2d(64, 96, 3, stride=2, padding=1)),  # H/4
                nn.Flatten(),
                nn.Linear(96 * h * w, code_dim),
                nn.Linear(code_dim, 32 * h * w),
                nn.Unflatten(1, (32, h, w)),
                *hidden(UpConv2d(32, 32)),  # H/2
                *hidden(UpConv2d(32, 32)),  # H
                nn.Conv2d(32, channels, 3, padding=1),
            )
        )
    return small_normal(
        nn.Sequential(
            Shrink(),
            nn.Conv2d(channels, 64, 4, stride=2, padding=1),  # H/2
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 4, stride=2, padding=1),  # H/4
            nn.Flatten(),
            *hidden(nn.Linear(128 * h * w, code_dim)),
            *hidden(nn.Linear(code_dim, 128 * h * w)),
            nn.Unflatten(1, (128, h, w)),
            *hidden(nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1)),  # H/2
            nn.ConvTranspose2d(64, channels, 4, stride=2, padding=1),  # H
            nn.Sigmoid(),
            Stretch(),
        )
    )


class Balance(nn.Module):
    """The weight k, a buffer within [0, 1] that starts at 0."""

    k: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("k", torch.zeros(()))

    def forward(self, step: Tensor) -> Tensor:
        """k as it was, (); then, in training, it moves by ``step`` ()."""
        k = self.k.clone()
        if self.training:
            self.k.copy_((k + step).clamp(0.0, 1.0))
        return k


def error(images: Tensor, rebuilt: Tensor) -> Tensor:
    """L of each image: (B,)."""
    return (images - rebuilt).abs().flatten(1).mean(1)


def d(nets: Nets, batch: Batch, draw: Draw, gamma: float, k_rate: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Section 3.3: E L(x) - k E L(G(z)); then k ← k + λ (γ E L(x) - E L(G(z))).

    Section 3.4: M = E L(x) + |γ E L(x) - E L(G(z))|.
    """
    image, fake = batch["image"], nets["gen"](draw["z"])
    real_error = error(image, nets["disc"](image)).mean()
    fake_error = error(fake, nets["disc"](fake)).mean()
    gap = (gamma * real_error - fake_error).detach()
    k = nets["balance"](k_rate * gap)
    loss = real_error - k * fake_error
    return loss, {"d_loss": loss, "k": k, "measure": real_error + gap.abs()}


def g(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Section 3.3: E L(G(z))."""
    fake = nets["gen"](draw["z"])
    loss = error(fake, nets["disc"](fake)).mean()
    return loss, {"g_loss": loss}


def discriminate(nets: Nets, batch: Batch) -> Tensor:
    """Minus the error: the data are rebuilt better."""
    return -error(batch["image"], nets["disc"].eval(batch["image"]))


@card(
    paper="Berthelot et al., BEGAN: Boundary Equilibrium Generative Adversarial Networks, arXiv:1703.10717",
    year=2017,
)
@grouped
def began(
    data: DataSpec,
    *,
    net: Net = "mlp",
    disc_norm: Literal["none", "batch"] = "none",
    prior: Prior = "uniform",
    latent_dim: Annotated[int, Log(16, 256)] = 64,
    code_dim: Annotated[int, Log(16, 256)] = 64,
    n_critic: Annotated[int, Choice((1, 2, 5))] = 1,
    gamma: Annotated[float, Linear(0.0, 1.0)] = 0.75,
    k_rate: Annotated[float, Log(1e-4, 1e-2)] = 0.001,
    training: Training = Training(lr=1e-4),
) -> Gan:
    """``code_dim``: size of the autoencoder's code. ``gamma``: γ. ``k_rate``: λ, the learning rate of k."""
    if net != "mlp":
        multiples_of(4, data)
    at_least(1, latent_dim=latent_dim, code_dim=code_dim, n_critic=n_critic)
    at_least(2, batch_size=training.batch_size)
    at_least(0, gamma=gamma, k_rate=k_rate)
    adam = training.adam()
    z: Noise = Normal((latent_dim,)) if prior == "normal" else Uniform((latent_dim,), -1.0, 1.0)
    return Gan(
        build=lambda: {
            "gen": family.generator(net, latent_dim, data),
            "disc": autoencoder(net, code_dim, data, norm=disc_norm == "batch"),
            "balance": Balance(),
        },
        noise={"z": z},
        updates=(Update("disc", partial(d, gamma=gamma, k_rate=k_rate)),) * n_critic + (Update("gen", g),),
        generate=lambda nets, batch, draw: nets["gen"].eval(draw["z"]),
        discriminate=discriminate,
        optim={"gen": adam, "disc": training.of_disc(adam)},
        batch_size=training.batch_size,
        threshold=None,
    )
