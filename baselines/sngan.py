"""SNGAN: residual networks and a spectrally normalised discriminator (Miyato et al. 2018, arXiv:1802.05957).

Table 4, the networks for 32×32, with the settings of the authors' code for CIFAR-10
(pfnet-research/sngan_projection): hinge loss, z ~ N(0, I) of 128 numbers, five steps of D, Adam 2e-4 with
β = (0, 0.9), batches of 64, Glorot-uniform weights, with a gain of √2 in the residual branches.

Other sizes: each block of G doubles the image, from 4×4 or a little more: three blocks for 32×32, two for
28×28, from 7×7. The first blocks of D halve it to about 8×8, two more keep its size. All blocks have the same
width; the paper's networks for larger images are wider where the image is small.

Deviations: G's update takes as many images as D's, theirs takes 128. Their code lowers the learning rate to
0, linearly, over 50,000 updates of G.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Annotated, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines import hinge
from baselines.checks import at_least, fraction, multiples_of, positive
from baselines.gan import Adam, Batch, Choice, DataSpec, Gan, Linear, Log, Loss, Normal, Update, card
from baselines.groups import grouped
from baselines.layers import UpConv2d, spectral_norm

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d, UpConv2d)


@dataclass(frozen=True)
class Setup:
    """Hyperparameters, the same with and without labels."""

    width: Annotated[int, Log(32, 512)] = 256
    """Filters of G; D has half as many."""
    latent_dim: Annotated[int, Log(16, 256)] = 128
    n_critic: Annotated[int, Choice((1, 2, 5))] = 5
    """Discriminator updates per generator update."""
    lr: Annotated[float, Log(1e-5, 1e-2)] = 2e-4
    beta1: Annotated[float, Linear(0.0, 0.9)] = 0.0
    beta2: Annotated[float, Linear(0.9, 0.999)] = 0.9
    batch_size: Annotated[int, Log(32, 512)] = 64


# ---------------------------------------------------------------- networks


def halvings(data: DataSpec, smallest: int) -> int:
    """How often the images can be halved so that both sides are whole, and ``smallest`` or more."""
    n = 0
    while data.height % 2 ** (n + 1) == data.width % 2 ** (n + 1) == 0:
        if min(data.height, data.width) < smallest * 2 ** (n + 1):
            break
        n += 1
    return n


def glorot(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with Glorot-uniform weights and a zero bias."""
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def conv(n_in: int, n_out: int) -> nn.Conv2d:
    """A 3×3 convolution of a residual branch."""
    return glorot(nn.Conv2d(n_in, n_out, 3, padding=1), sqrt(2))


class BatchNorm(nn.Module):
    """BatchNorm of features (B, n, H, W), with a scale and a shift for each class, if there are classes."""

    def __init__(self, n: int, n_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(n, eps=2e-5, affine=False)
        self.scale = nn.Parameter(torch.ones(max(1, n_classes), n))
        self.shift = nn.Parameter(torch.zeros(max(1, n_classes), n))

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        """``label``: (B,)."""
        scale: Tensor = self.scale if label is None else F.embedding(label, self.scale)
        shift: Tensor = self.shift if label is None else F.embedding(label, self.shift)
        normal: Tensor = self.norm(x)
        return normal * scale[:, :, None, None] + shift[:, :, None, None]


class Up(nn.Module):
    """G's block (B, n, H, W) -> (B, n, 2H, 2W)."""

    def __init__(self, n: int, n_classes: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = BatchNorm(n, n_classes), BatchNorm(n, n_classes)
        self.conv1, self.conv2 = glorot(UpConv2d(n, n), sqrt(2)), conv(n, n)
        self.shortcut = glorot(nn.Conv2d(n, n, 1))

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x, label)))
        residual: Tensor = self.conv2(F.relu(self.norm2(h, label)))
        return residual + F.interpolate(self.shortcut(x), scale_factor=2.0)


class Generator(nn.Module):
    """z (B, latent_dim), with or without labels (B,) -> images (B, C, H, W) in [-1, 1]."""

    def __init__(self, latent_dim: int, n: int, data: DataSpec, n_classes: int = 0) -> None:
        super().__init__()
        n_blocks = halvings(data, 4)
        self.start = (n, data.height >> n_blocks, data.width >> n_blocks)
        self.dense = glorot(nn.Linear(latent_dim, n * self.start[1] * self.start[2]))
        self.blocks = nn.ModuleList(Up(n, n_classes) for _ in range(n_blocks))
        self.norm = nn.BatchNorm2d(n, eps=2e-5)
        self.image = glorot(nn.Conv2d(n, data.channels, 3, padding=1))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.dense(z).view(-1, *self.start)
        for block in self.blocks:
            x = block(x, label)
        return torch.tanh(self.image(F.relu(self.norm(x))))


class Down(nn.Module):
    """D's block (B, n_in, H, W) -> (B, n, H/2, W/2), or of the same size without ``halve``."""

    def __init__(self, n_in: int, n: int, *, halve: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(n_in, n), conv(n, n)
        self.pool = nn.AvgPool2d(2) if halve else nn.Identity()
        self.shortcut = glorot(nn.Conv2d(n_in, n, 1)) if halve else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.pool(self.conv2(F.relu(self.conv1(F.relu(x)))))
        shortcut: Tensor = self.pool(self.shortcut(x))
        return residual + shortcut


class First(Down):
    """D's first block: its input is an image, so no ReLU comes before it."""

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.pool(self.conv2(F.relu(self.conv1(x))))
        shortcut: Tensor = self.shortcut(self.pool(x))
        return residual + shortcut


class Discriminator(nn.Module):
    """Images (B, C, H, W), with or without labels (B,) -> a score (B,) of each.

    With labels it is the projection discriminator (Miyato & Koyama 2018, equation 3), which adds the inner
    product of the features with a vector of the class.
    """

    def __init__(self, n: int, data: DataSpec, n_classes: int = 0) -> None:
        super().__init__()
        halving = [Down(n, n, halve=True) for _ in range(halvings(data, 7) - 1)]
        keeping = [Down(n, n, halve=False) for _ in range(2)]
        self.blocks = nn.Sequential(First(data.channels, n, halve=True), *halving, *keeping)
        self.score = glorot(nn.Linear(n, 1, bias=False))
        self.classes = glorot(nn.Linear(n, n_classes, bias=False)) if n_classes else None
        spectral_norm(self)

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        features = F.relu(self.blocks(images)).sum((2, 3))
        score: Tensor = self.score(features).squeeze(1)
        if self.classes is None or label is None:
            return score
        products: Tensor = self.classes(features)
        return score + products.gather(1, label[:, None]).squeeze(1)


# ---------------------------------------------------------------- the model


def gan(data: DataSpec, d: Loss, g: Loss, setup: Setup, *, n_classes: int = 0) -> Gan:
    """A model on these networks. With ``n_classes`` both of them get the labels.

    Raises:
        ValueError: a hyperparameter is out of range, or the networks do not fit the images.
    """
    multiples_of(2, data)
    if not halvings(data, 4):
        raise ValueError(
            f"images {data.width} wide and {data.height} high do not fit: both must be at least 8"
        )
    at_least(1, latent_dim=setup.latent_dim, n_critic=setup.n_critic)
    at_least(2, width=setup.width, batch_size=setup.batch_size)
    positive(lr=setup.lr)
    fraction(beta1=setup.beta1, beta2=setup.beta2)
    adam = Adam(setup.lr, (setup.beta1, setup.beta2))

    def labels(batch: Batch) -> tuple[Tensor, ...]:
        return (batch["label"],) if n_classes else ()

    return Gan(
        build=lambda: {
            "gen": Generator(setup.latent_dim, setup.width, data, n_classes),
            "disc": Discriminator(setup.width // 2, data, n_classes),
        },
        noise={"z": Normal((setup.latent_dim,))},
        updates=(Update("disc", d),) * setup.n_critic + (Update("gen", g),),
        generate=lambda nets, batch, draw: nets["gen"].eval(draw["z"], *labels(batch)),
        discriminate=lambda nets, batch: nets["disc"].eval(batch["image"], *labels(batch)),
        optim={"gen": adam, "disc": adam},
        batch_size=setup.batch_size,
    )


@card(paper="Miyato et al., Spectral Normalization for GANs, table 4, arXiv:1802.05957", year=2018)
@grouped
def sngan(data: DataSpec, *, setup: Setup = Setup()) -> Gan:
    """Without labels. ``sngan_projection`` uses them."""
    return gan(data, hinge.d, hinge.g, setup)
