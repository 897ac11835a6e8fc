"""DiffAugment: D sees real and generated images through random, differentiable changes (Zhao et al. 2020,
arXiv:2006.10738).

The changes are those of the authors' code (mit-han-lab/data-efficient-gans), in its order: colour where there
are three channels (brightness, saturation, contrast), translation by up to an eighth of the side, and cutout
of a rectangle of half the sides. What is empty is 0, mid-grey. Every random number is declared noise, so the
changes are one function of images and numbers, also in a stack.

Deviation: an update has two sets of random numbers, which D's calls take in turn: the real images the first,
the generated ones the second, and a penalty at real images the first again, so that it sees them as D did.
The code draws anew for each call.

B examples, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from baselines.gan import Batch, DataSpec, Draw, Loss, Net, Nets, Uniform

NUMBERS = 7
"""Random numbers per image: brightness, saturation, contrast; two of the translation, two of the cutout."""

SETS = 2
"""Sets of random numbers in an update."""

NAME = "augment"
"""Of the noise."""

NOISE = Uniform((SETS, NUMBERS))


def refuse_small(data: DataSpec) -> None:
    """Raise ``ValueError`` for images in which there is nothing to move or to cut out."""
    if min(data.height, data.width) < 4:
        raise ValueError(
            "augment=diffaugment moves and cuts images of at least 4×4 pixels; these are "
            f"{data.width} wide and {data.height} high"
        )


def diffaugment(x: Tensor, u: Tensor, *, coloured: bool) -> Tensor:
    """Images (B, C, H, W) changed by random numbers (B, 7) in [0, 1)."""
    u = u[:, :, None, None, None]  # (B, 7, 1, 1, 1)
    if coloured:
        x = colour(x, u[:, 0], u[:, 1], u[:, 2])
    return cutout(translation(x, u[:, 3], u[:, 4]), u[:, 5], u[:, 6])


def colour(x: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Brightness +[-0.5, 0.5), saturation ×[0, 2), contrast ×[0.5, 1.5)."""
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2 * saturation) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def translation(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Moved by up to an eighth of the height and of the width, with zeros in what is left."""
    return _moved(_moved(x, down).transpose(2, 3), right).transpose(2, 3)


def _moved(x: Tensor, u: Tensor) -> Tensor:
    """Images with their rows moved as u (B, 1, 1, 1) says: a product with shifted identities."""
    height = x.shape[2]
    most = int(height / 8 + 0.5)
    by = (u * (2 * most + 1)).floor() - most  # -most … most, equally often
    row = torch.arange(height, dtype=x.dtype, device=x.device)
    return (row[:, None] == row + by).to(x.dtype) @ x


def cutout(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Zeros in a rectangle of half the height and width, which may reach over the edge."""
    inside = _cut(down, x.shape[2], x)[..., :, None] * _cut(right, x.shape[3], x)[..., None, :]
    return x * (1 - inside)


def _cut(u: Tensor, side: int, x: Tensor) -> Tensor:
    """1 for the rows (B, 1, side) that are cut out, else 0."""
    size = int(side / 2 + 0.5)
    first = (u[..., 0] * (side + 1 - size % 2)).floor() - size // 2
    row = torch.arange(side, dtype=x.dtype, device=x.device)
    return ((row >= first) & (row < first + size)).to(x.dtype)


class AugmentedNet:
    """A discriminator that sees changed images."""

    def __init__(self, net: Net, numbers: Tensor, *, coloured: bool) -> None:
        self.net, self.numbers, self.coloured, self.calls = net, numbers, coloured, 0

    def __call__(self, *inputs: Tensor) -> Any:
        return self.net(*self._changed(inputs))

    def eval(self, *inputs: Tensor) -> Any:
        return self.net.eval(*self._changed(inputs))

    def _changed(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        images, *rest = inputs
        numbers = self.numbers[: len(images), self.calls % SETS]
        self.calls += 1
        return (diffaugment(images, numbers, coloured=self.coloured), *rest)


def augmented(
    loss: Loss, nets: Nets, batch: Batch, draw: Draw, *, coloured: bool, **numbers: float
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """A loss in which D sees changed images. ``numbers`` are the loss's own keywords."""
    disc = AugmentedNet(nets["disc"], draw[NAME], coloured=coloured)
    return loss({**nets, "disc": disc}, batch, draw, **numbers)
