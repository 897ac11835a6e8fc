"""The networks of "Are GANs Created Equal?" (Lucic et al. 2018, arXiv:1711.10337), which are like InfoGAN's.

The numbers are from their published code: leaky ReLU 0.2 in both networks; weights N(0, 0.02), truncated at
±0.04 in D's convolutions; zero biases; BatchNorm with momentum 0.999 (0.001 in PyTorch) and eps 1e-3. Their
images lie in [0, 1], after a sigmoid. So G's output is stretched to [-1, 1], and D's input is shrunk back.

Deviation: PyTorch's moving variances are unbiased, TensorFlow's are not.
"""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

from baselines.gan import DataSpec

Module = TypeVar("Module", bound=nn.Module)

DENSE = 1024
"""Width of the dense layer in both networks."""


class Stretch(nn.Module):
    """[0, 1] -> [-1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


class Shrink(nn.Module):
    """[-1, 1] -> [0, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) / 2


def generator(latent_dim: int, data: DataSpec) -> nn.Sequential:
    """z (B, latent_dim) -> images (B, C, H, W) in [-1, 1]; H and W are multiples of 4."""
    start = (128, data.height // 4, data.width // 4)
    n_start = start[0] * start[1] * start[2]
    return small_normal(
        nn.Sequential(
            nn.Linear(latent_dim, DENSE),
            nn.BatchNorm1d(DENSE, eps=1e-3, momentum=1e-3),
            nn.LeakyReLU(0.2),
            nn.Linear(DENSE, n_start),
            nn.BatchNorm1d(n_start, eps=1e-3, momentum=1e-3),
            nn.LeakyReLU(0.2),
            nn.Unflatten(1, start),
            nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1),  # H/2
            nn.BatchNorm2d(64, eps=1e-3, momentum=1e-3),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(64, data.channels, 4, stride=2, padding=1),  # H
            nn.Sigmoid(),
            Stretch(),
        )
    )


def discriminator(data: DataSpec, *, norm: bool) -> nn.Sequential:
    """Images (B, C, H, W) -> the logit (B,) that each is real. ``norm``: with BatchNorm."""
    n_flat = 128 * (data.height // 4) * (data.width // 4)
    return small_normal(
        nn.Sequential(
            Shrink(),
            nn.Conv2d(data.channels, 64, 4, stride=2, padding=1),  # H/2
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 4, stride=2, padding=1),  # H/4
            nn.BatchNorm2d(128, eps=1e-3, momentum=1e-3) if norm else nn.Identity(),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(n_flat, DENSE),
            nn.BatchNorm1d(DENSE, eps=1e-3, momentum=1e-3) if norm else nn.Identity(),
            nn.LeakyReLU(0.2),
            nn.Linear(DENSE, 1),
            nn.Flatten(0),
        )
    )


def small_normal(net: Module) -> Module:
    """Initialise every layer with weights N(0, 0.02), truncated at ±0.04 in convolutions, and a zero bias."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            if isinstance(layer, nn.Conv2d):
                nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
            else:
                nn.init.normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net
