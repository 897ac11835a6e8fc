"""The networks of PacGAN's experiments (Lin et al. 2018, arXiv:1712.04086; code fjxmlzn/PacGAN).

``plane``: points in the plane. All weights are N(0, 0.02²) and all biases zero. G has biases in its output
layer alone, and BatchNorm with eps 1e-4.

``stacked_quarter``, ``stacked_half``: Stacked MNIST with discriminators of a quarter and a half of G's width,
the experiment of Metz et al. (2016, arXiv:1611.02163). Weights and BatchNorm are those of the DCGAN code
that theirs is built on (carpedm20/DCGAN-tensorflow): N(0, 0.02), truncated at ±0.04 in convolutions, zero
biases; BatchNorm with momentum 0.9 (0.1 in PyTorch) and eps 1e-5.

Deviations: PyTorch's moving variances are unbiased, and theirs are not; in ``plane`` they average the
standard deviation, not the variance. With stride 2 they pad right and bottom, and here left and top are
padded: the networks are the mirror image of theirs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from baselines.gan import DataSpec
from baselines.infogan import small_normal

Published = Literal["plane", "stacked_quarter", "stacked_half"]

FILTERS = {"stacked_quarter": (2, 4, 8), "stacked_half": (4, 8, 16)}
"""Of the three convolutions of D."""


def fits(net: str, data: DataSpec) -> None:
    """Raise ``ValueError`` where ``net`` is one of these networks and not made for data of this shape."""
    if net == "plane" and not data.points:
        raise ValueError(f"net={net} is for points in the plane, not for images")
    if net in FILTERS and (data.height, data.width) != (28, 28):
        raise ValueError(
            f"net={net} is for images of 28x28, not for images {data.width} wide and {data.height} high"
        )


def generator(net: Published, latent_dim: int, data: DataSpec) -> nn.Sequential:
    """z (B, latent_dim) -> points (B, 2, 1, 1), or images (B, C, 28, 28) in [-1, 1]."""
    return plane_generator(latent_dim, data) if net == "plane" else stacked_generator(latent_dim, data)


def discriminator(net: Published, data: DataSpec) -> nn.Sequential:
    """Packs (B, C, H, W) -> the logit (B,) that each is real. C counts the channels of the whole pack."""
    return plane_discriminator(data) if net == "plane" else stacked_discriminator(FILTERS[net], data)


# ---------------------------------------------------------------- points in the plane


class Maxout(nn.Module):
    """(B, n_in) -> (B, n_out): each output is the largest of ``n_pieces`` linear functions."""

    def __init__(self, n_in: int, n_out: int, n_pieces: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out * n_pieces)
        self.shape = (n_out, n_pieces)

    def forward(self, x: Tensor) -> Tensor:
        pieces: Tensor = self.linear(x)
        return pieces.view(-1, *self.shape).amax(dim=2)


def plane_generator(latent_dim: int, data: DataSpec) -> nn.Sequential:
    """z (B, latent_dim) -> points (B, 2, 1, 1): four hidden layers of 400, linear output."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise((latent_dim, 400, 400, 400, 400)):
        norm = nn.BatchNorm1d(n_out, eps=1e-4, momentum=0.05)
        layers += [nn.Linear(n_in, n_out, bias=False), norm, nn.ReLU()]
    return small_normal(nn.Sequential(*layers, nn.Linear(400, 2), nn.Unflatten(1, data.shape)))


def plane_discriminator(data: DataSpec) -> nn.Sequential:
    """Packs of m points (B, 2m, 1, 1) -> logits (B,): three maxout layers of 200 units with 5 pieces."""
    hidden = [Maxout(n_in, n_out, 5) for n_in, n_out in pairwise((data.n_pixels, 200, 200, 200))]
    return small_normal(nn.Sequential(nn.Flatten(), *hidden, nn.Linear(200, 1), nn.Flatten(0)))


# ---------------------------------------------------------------- Stacked MNIST


def stacked_generator(latent_dim: int, data: DataSpec) -> nn.Sequential:
    """z (B, latent_dim) -> images (B, C, 28, 28) in [-1, 1], from 4×4 over 7×7 and 14×14."""
    layers: list[nn.Module] = [nn.Linear(latent_dim, 64 * 4 * 4), nn.Unflatten(1, (64, 4, 4))]
    layers += [nn.BatchNorm2d(64), nn.ReLU()]
    for n_in, n_out, extra in ((64, 32, 0), (32, 16, 1), (16, 8, 1)):  # 4×4 -> 7×7, the others double
        grow = nn.ConvTranspose2d(n_in, n_out, 3, stride=2, padding=1, output_padding=extra)
        layers += [grow, nn.BatchNorm2d(n_out), nn.ReLU()]
    return small_normal(nn.Sequential(*layers, nn.Conv2d(8, data.channels, 3, padding=1), nn.Tanh()))


def stacked_discriminator(filters: tuple[int, int, int], data: DataSpec) -> nn.Sequential:
    """Packs (B, C, 28, 28) -> logits (B,): three convolutions, each halves the image."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise((data.channels, *filters)):
        conv = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1)
        layers += [conv, nn.BatchNorm2d(n_out), nn.LeakyReLU(0.3)]
    head = nn.Linear(filters[-1] * 4 * 4, 1)
    return small_normal(nn.Sequential(*layers, nn.Flatten(), head, nn.Flatten(0)))
