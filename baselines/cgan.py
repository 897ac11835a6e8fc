"""CGAN: the conditional GAN, fully connected (Mirza & Osindero 2014, arXiv:1411.1784).

Networks as commonly configured for MNIST in Keras: a label's embedding multiplies the noise in the
generator and the flat image in the discriminator, where the paper concatenates. Labels of fakes are
those of the batch, so they follow the data's class frequencies. One iteration is ``vanilla``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from torch import Tensor, nn

from baselines.checks import at_least, fraction, labelled, positive, widths_of
from baselines.gan import Adam, Batch, DataSpec, Draw, Gan, Linear, Log, Nets, Normal, Update, card
from baselines.layers import Dropout
from baselines.vanilla import cross_entropy, dense, generator, share


def embedding(n_classes: int, size: int) -> nn.Embedding:
    """Label (B,) -> (B, size), started as Keras does: U(-0.05, 0.05)."""
    table = nn.Embedding(n_classes, size)
    nn.init.uniform_(table.weight, -0.05, 0.05)
    return table


class LabelledGenerator(nn.Module):
    """z (B, latent_dim), label (B,) -> images (B, C, H, W): ``net`` of z times the label's embedding."""

    def __init__(self, net: nn.Module, latent_dim: int, data: DataSpec) -> None:
        super().__init__()
        self.embedding = embedding(data.n_classes, latent_dim)
        self.net = net

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        images: Tensor = self.net(z * self.embedding(label))
        return images


class LabelledDiscriminator(nn.Module):
    """Images (B, C, H, W), label (B,) -> the logit (B,) that each is real and of its label."""

    def __init__(self, widths: Sequence[int], data: DataSpec, dropout: float) -> None:
        super().__init__()
        self.embedding = embedding(data.n_classes, data.n_pixels)
        layers: list[nn.Module] = []
        for i, (n_in, n_out) in enumerate(pairwise((data.n_pixels, *widths))):
            layers += [dense(n_in, n_out), nn.LeakyReLU(0.2)]
            if i > 0:
                layers.append(Dropout(dropout))
        self.net = nn.Sequential(*layers, dense(widths[-1], 1), nn.Flatten(0))

    def forward(self, images: Tensor, label: Tensor) -> Tensor:
        logit: Tensor = self.net(images.flatten(1) * self.embedding(label))
        return logit


def d_real(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 2, first term: D should say "real" of the data with their labels."""
    logit = nets["disc"](batch["image"], batch["label"])
    loss = cross_entropy(logit, real=True)
    return loss, {"d_loss": loss, "d_acc_real": share(logit > 0)}


def d_fake(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 2, second term: D should say "fake" of samples with the labels asked for."""
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
    dropout: Annotated[float, Linear(0.0, 0.5)] = 0.4,
    lr: Annotated[float, Log(1e-5, 1e-2)] = 2e-4,
    beta1: Annotated[float, Linear(0.0, 0.9)] = 0.5,
    beta2: Annotated[float, Linear(0.9, 0.999)] = 0.999,
    batch_size: Annotated[int, Log(32, 512)] = 128,
) -> Gan:
    """``dropout``: after every hidden layer of the discriminator but the first."""
    labelled(data)
    widths_of(g_widths=g_widths, d_widths=d_widths)
    at_least(1, latent_dim=latent_dim)
    at_least(2, batch_size=batch_size)
    positive(lr=lr)
    fraction(dropout=dropout, beta1=beta1, beta2=beta2)
    adam = Adam(lr, (beta1, beta2), eps=1e-7)
    return Gan(
        build=lambda: {
            "gen": LabelledGenerator(generator(latent_dim, g_widths, data), latent_dim, data),
            "disc": LabelledDiscriminator(d_widths, data, dropout),
        },
        noise={"z": Normal((latent_dim,))},
        updates=(Update("disc", d_real), Update("disc", d_fake), Update("gen", g)),
        generate=lambda nets, batch, draw: nets["gen"].eval(draw["z"], batch["label"]),
        discriminate=lambda nets, batch: nets["disc"].eval(batch["image"], batch["label"]),
        optim={"gen": adam, "disc": adam},
        batch_size=batch_size,
    )
