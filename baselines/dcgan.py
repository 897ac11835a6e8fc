"""DCGAN: the convolutional GAN (Radford et al. 2015, arXiv:1511.06434).

Networks of the Keras code that is common for MNIST: upsampling and 3×3 convolutions instead of the paper's
fractionally strided convolutions, dropout in the discriminator, Glorot-uniform weights, not N(0, 0.02).
Losses and procedure are those of ``vanilla``. The generator starts at a quarter of the image's size,
so 8×8, 28×28 and 32×32 all fit. The discriminator halves the image until it is about 4×4: three times for
28×28, as in the Keras code, and once for 8×8, because with three halvings a single pixel would be left,
which is too little for dropout and BatchNorm.

Deviations from the Keras code: stride-2 convolutions pad one pixel on every side; Keras pads right and
bottom. Its versions differ. G is that of the first version, with ReLU before BatchNorm, and BatchNorm after
the dense layer. D is that of the last version. Batches of 32 are from the Keras code; the paper has 128.
The first version trains D on half batches, 16 real and 16 generated images, and G on 32; here, as in
``vanilla``, every update has a batch of 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, log2
from typing import Annotated

from torch import nn

from baselines.checks import at_least, fraction, multiples_of, positive
from baselines.gan import Adam, DataSpec, Gan, Linear, Log, Normal, Update, card
from baselines.layers import Dropout, UpConv2d, batch_norm, glorot
from baselines.vanilla import d_fake, d_real, g


def generator(latent_dim: int, widths: tuple[int, int], data: DataSpec) -> nn.Sequential:
    """z (B, latent_dim) -> images (B, C, H, W) in [-1, 1]; H and W are multiples of 4."""
    first, second = widths
    start = (first, data.height // 4, data.width // 4)
    return glorot(
        nn.Sequential(
            nn.Linear(latent_dim, start[0] * start[1] * start[2]),
            nn.ReLU(),
            nn.Unflatten(1, start),
            batch_norm(first),
            UpConv2d(first, first),  # H/2
            nn.ReLU(),
            batch_norm(first),
            UpConv2d(first, second),  # H
            nn.ReLU(),
            batch_norm(second),
            nn.Conv2d(second, data.channels, 3, padding=1),
            nn.Tanh(),
        )
    )


def features(widths: Sequence[int], data: DataSpec, dropout: float, *, norm: bool = True) -> nn.Sequential:
    """Images (B, C, H, W) -> features (B, n): 3×3 convolutions, with stride 2 down to 4×4.

    With ``norm`` there is BatchNorm after all convolutions but the first.
    """
    layers: list[nn.Module] = []
    shrink = halvings(data)
    for i, (n_in, n_out) in enumerate(pairwise((data.channels, *widths))):
        layers.append(nn.Conv2d(n_in, n_out, 3, stride=2 if i < shrink else 1, padding=1))
        if norm and i > 0:
            layers.append(batch_norm(n_out))
        layers += [nn.LeakyReLU(0.2), Dropout(dropout)]
    return glorot(nn.Sequential(*layers, nn.Flatten()))


def halvings(data: DataSpec) -> int:
    """How many of the four convolutions halve the image: the first three for 28×28, the first for 8×8."""
    return min(3, ceil(log2(min(data.height, data.width) / 4)))


def n_features(widths: Sequence[int], data: DataSpec) -> int:
    """The n of :func:`features`."""
    shrink: int = 2 ** halvings(data)
    return widths[-1] * ceil(data.height / shrink) * ceil(data.width / shrink)


def discriminator(
    widths: Sequence[int], data: DataSpec, dropout: float, *, norm: bool = True
) -> nn.Sequential:
    """Images (B, C, H, W) -> the logit (B,) that each is real."""
    head = glorot(nn.Linear(n_features(widths, data), 1))
    return nn.Sequential(*features(widths, data, dropout, norm=norm), head, nn.Flatten(0))


@card(paper="Radford et al., Unsupervised Representation Learning with DCGANs, arXiv:1511.06434", year=2015)
def dcgan(
    data: DataSpec,
    *,
    latent_dim: Annotated[int, Log(16, 256)] = 100,
    width: Annotated[int, Log(16, 128)] = 64,
    dropout: Annotated[float, Linear(0.0, 0.5)] = 0.25,
    lr: Annotated[float, Log(1e-5, 1e-2)] = 2e-4,
    beta1: Annotated[float, Linear(0.0, 0.9)] = 0.5,
    beta2: Annotated[float, Linear(0.9, 0.999)] = 0.999,
    batch_size: Annotated[int, Log(32, 512)] = 32,
) -> Gan:
    """``width``: filters of the generator's last hidden layer. All other widths are proportional to it."""
    multiples_of(4, data)
    at_least(1, latent_dim=latent_dim)
    at_least(2, width=width, batch_size=batch_size)
    positive(lr=lr)
    fraction(dropout=dropout, beta1=beta1, beta2=beta2)
    adam = Adam(lr, (beta1, beta2), eps=1e-7)
    return Gan(
        build=lambda: {
            "gen": generator(latent_dim, (2 * width, width), data),
            "disc": discriminator((width // 2, width, 2 * width, 4 * width), data, dropout),
        },
        noise={"z": Normal((latent_dim,))},
        updates=(Update("disc", d_real), Update("disc", d_fake), Update("gen", g)),
        generate=lambda nets, batch, draw: nets["gen"].eval(draw["z"]),
        discriminate=lambda nets, batch: nets["disc"].eval(batch["image"]),
        optim={"gen": adam, "disc": adam},
        batch_size=batch_size,
    )
