"""CGAN: the conditional GAN, fully connected (Mirza & Osindero 2014, arXiv:1411.1784).

As in the paper, both networks get the label as a one-hot code, concatenated with their other input. The
networks are ``vanilla``'s generator and the discriminator of the Keras code that is common for MNIST. Fakes
have the labels of the batch, so they follow the data's class frequencies. One iteration is that of
``vanilla``.

Deviations: in the paper the label and the other input first have hidden layers of their own, the
discriminator has maxout units and dropout, and training uses momentum. The Keras code is
``condition="multiply", dropout=0.4``: the noise is multiplied by an embedding of the label, and the flat
image by another embedding. Its first version trains D on half batches, 16 real and 16 generated images, and
G on 32, asked for labels of which all are equally likely; here every update has ``batch_size`` examples, and
G's labels are those of a batch of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.checks import at_least, fraction, labelled, positive, widths_of
from baselines.gan import Adam, Batch, DataSpec, Draw, Gan, Linear, Log, Nets, Normal, Update, card
from baselines.layers import Dropout
from baselines.vanilla import cross_entropy, dense, generator, share


class Concat(nn.Module):
    """x (B, n), label (B,) -> (B, n + n_classes): x and the label's one-hot code, concatenated."""

    def __init__(self, n: int, n_classes: int) -> None:
        super().__init__()
        self.n_classes, self.n_out = n_classes, n + n_classes

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return torch.cat([x, F.one_hot(label, self.n_classes).to(x.dtype)], dim=1)


class Multiply(nn.Module):
    """x (B, n), label (B,) -> (B, n): x times an embedding of the label, initialised as in Keras."""

    def __init__(self, n: int, n_classes: int) -> None:
        super().__init__()
        self.n_out = n
        self.embedding = nn.Embedding(n_classes, n)
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        scaled: Tensor = x * self.embedding(label)
        return scaled


CONDITION: dict[str, type[Concat | Multiply]] = {"concat": Concat, "multiply": Multiply}


class Labelled(nn.Module):
    """x (B, …), label (B,) -> ``net`` of both, combined by ``condition``."""

    def __init__(self, condition: Concat | Multiply, net: nn.Module) -> None:
        super().__init__()
        self.condition, self.net = condition, net

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        output: Tensor = self.net(self.condition(x.flatten(1), label))
        return output


def discriminator(n_in: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Flat images with labels (B, n_in) -> the logit (B,) that each is real and has its label."""
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise((n_in, *widths))):
        layers += [dense(before, after), nn.LeakyReLU(0.2)]
        if i > 0:
            layers.append(Dropout(dropout))
    return nn.Sequential(*layers, dense(widths[-1], 1), nn.Flatten(0))


def d_real(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 2, first term: D should say "real" of the data with their labels."""
    logit = nets["disc"](batch["image"], batch["label"])
    loss = cross_entropy(logit, real=True)
    return loss, {"d_loss": loss, "d_acc_real": share(logit > 0)}


def d_fake(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 2, second term: D should say "fake" of samples with their labels."""
    label = batch["label"]
    logit = nets["disc"](nets["gen"].eval(draw["z"], label), label)
    loss = cross_entropy(logit, real=False)
    return loss, {"d_loss": loss, "d_acc_fake": share(logit <= 0)}


def g(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 2 for G, non-saturating: it maximises log D(G(z|y)|y)."""
    label = batch["label"]
    loss = cross_entropy(nets["disc"](nets["gen"](draw["z"], label), label), real=True)
    return loss, {"g_loss": loss}


@card(
    paper="Mirza & Osindero, Conditional Generative Adversarial Nets, arXiv:1411.1784",
    year=2014,
    needs={"label"},
)
def cgan(
    data: DataSpec,
    *,
    latent_dim: Annotated[int, Log(16, 256)] = 100,
    g_widths: tuple[int, ...] = (256, 512, 1024),
    d_widths: tuple[int, ...] = (512, 512, 512),
    condition: Literal["concat", "multiply"] = "concat",
    dropout: Annotated[float, Linear(0.0, 0.5)] = 0.0,
    lr: Annotated[float, Log(1e-5, 1e-2)] = 2e-4,
    beta1: Annotated[float, Linear(0.0, 0.9)] = 0.5,
    beta2: Annotated[float, Linear(0.9, 0.999)] = 0.999,
    batch_size: Annotated[int, Log(32, 512)] = 128,
) -> Gan:
    """``condition``: how label and other input are combined. ``dropout``: after all hidden layers of the
    discriminator but the first."""
    labelled(data)
    widths_of(g_widths=g_widths, d_widths=d_widths)
    at_least(1, latent_dim=latent_dim)
    at_least(2, batch_size=batch_size)
    positive(lr=lr)
    fraction(dropout=dropout, beta1=beta1, beta2=beta2)
    adam = Adam(lr, (beta1, beta2), eps=1e-7)

    def build() -> dict[str, nn.Module]:
        z, image = (CONDITION[condition](n, data.n_classes) for n in (latent_dim, data.n_pixels))
        return {
            "gen": Labelled(z, generator(z.n_out, g_widths, data)),
            "disc": Labelled(image, discriminator(image.n_out, d_widths, dropout)),
        }

    return Gan(
        build=build,
        noise={"z": Normal((latent_dim,))},
        updates=(Update("disc", d_real), Update("disc", d_fake), Update("gen", g)),
        generate=lambda nets, batch, draw: nets["gen"].eval(draw["z"], batch["label"]),
        discriminate=lambda nets, batch: nets["disc"].eval(batch["image"], batch["label"]),
        optim={"gen": adam, "disc": adam},
        batch_size=batch_size,
    )
