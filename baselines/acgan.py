"""ACGAN: a GAN whose discriminator also predicts the class (Odena et al. 2016, arXiv:1610.09585).

As in the paper, G gets the label as a one-hot code, concatenated with the noise. The networks are those of
the Keras code that is common for MNIST: G is that of ``dcgan``; D is that of ``dcgan`` at half the width,
with two heads. D predicts the C classes of the data, as in the paper. (The first version of the Keras code
has an extra class "fake".) One iteration is that of ``vanilla``.

Deviations from the Keras code: there G gets the noise times an embedding of the label
(``condition="multiply"``). There D has BatchNorm after dropout, and none after the last convolution; here
BatchNorm is between convolution and leaky ReLU, from the second convolution to the last. Here fakes have the
labels of the batch, so they follow the data's class frequencies; there all classes are equally likely. Its
first version trains D on half batches, 16 real and 16 generated images, and G on 32; here every update has a
batch of 32. It also weights D's and G's class loss: 10/16 for each class of the data and 1/16 for "fake".
Here nothing is weighted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from baselines.cgan import CONDITION, Labelled
from baselines.checks import at_least, fraction, labelled, multiples_of, positive
from baselines.dcgan import features, generator, n_features
from baselines.gan import Adam, Batch, DataSpec, Draw, Gan, Linear, Log, Nets, Normal, Update, card
from baselines.layers import glorot
from baselines.vanilla import cross_entropy, share


class Classifier(nn.Module):
    """Images (B, C, H, W) -> the logit (B,) that each is real, the logits (B, n_classes) of its class."""

    def __init__(self, widths: Sequence[int], data: DataSpec, dropout: float) -> None:
        super().__init__()
        self.features = features(widths, data, dropout)
        self.source = glorot(nn.Linear(n_features(widths, data), 1))
        self.label = glorot(nn.Linear(n_features(widths, data), data.n_classes))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(images)
        return self.source(x).squeeze(1), self.label(x)


def d_real(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equations 2 and 3, first terms: D should say "real" and the class of the data."""
    label = batch["label"]
    source, classes = nets["disc"](batch["image"])
    loss = cross_entropy(source, real=True) + F.cross_entropy(classes, label)
    right = classes.argmax(1) == label
    return loss, {"d_loss": loss, "d_acc_real": share(source > 0), "class_acc_real": share(right)}


def d_fake(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equations 2 and 3, second terms: D should say "fake" and the label that G was given."""
    label = batch["label"]
    source, classes = nets["disc"](nets["gen"].eval(draw["z"], label))
    loss = cross_entropy(source, real=False) + F.cross_entropy(classes, label)
    right = classes.argmax(1) == label
    return loss, {"d_loss": loss, "d_acc_fake": share(source <= 0), "class_acc_fake": share(right)}


def g(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Section 4: G maximises L_C - L_S, the latter in its non-saturating form."""
    label = batch["label"]
    source, classes = nets["disc"](nets["gen"](draw["z"], label))
    loss = cross_entropy(source, real=True) + F.cross_entropy(classes, label)
    return loss, {"g_loss": loss}


@card(
    paper="Odena et al., Conditional Image Synthesis with Auxiliary Classifier GANs, arXiv:1610.09585",
    year=2016,
    needs={"label"},
)
def acgan(
    data: DataSpec,
    *,
    latent_dim: Annotated[int, Log(16, 256)] = 100,
    width: Annotated[int, Log(16, 128)] = 64,
    condition: Literal["concat", "multiply"] = "concat",
    dropout: Annotated[float, Linear(0.0, 0.5)] = 0.25,
    lr: Annotated[float, Log(1e-5, 1e-2)] = 2e-4,
    beta1: Annotated[float, Linear(0.0, 0.9)] = 0.5,
    beta2: Annotated[float, Linear(0.9, 0.999)] = 0.999,
    batch_size: Annotated[int, Log(32, 512)] = 32,
) -> Gan:
    """``condition``: how label and noise are combined. ``width``: filters of the generator's last hidden
    layer; all other widths are proportional to it."""
    labelled(data)
    multiples_of(4, data)
    at_least(1, latent_dim=latent_dim)
    at_least(2, batch_size=batch_size)
    at_least(4, width=width)
    positive(lr=lr)
    fraction(dropout=dropout, beta1=beta1, beta2=beta2)
    adam = Adam(lr, (beta1, beta2), eps=1e-7)

    def build() -> dict[str, nn.Module]:
        z = CONDITION[condition](latent_dim, data.n_classes)
        return {
            "gen": Labelled(z, generator(z.n_out, (2 * width, width), data)),
            "disc": Classifier((width // 4, width // 2, width, 2 * width), data, dropout),
        }

    return Gan(
        build=build,
        noise={"z": Normal((latent_dim,))},
        updates=(Update("disc", d_real), Update("disc", d_fake), Update("gen", g)),
        generate=lambda nets, batch, draw: nets["gen"].eval(draw["z"], batch["label"]),
        discriminate=lambda nets, batch: nets["disc"].eval(batch["image"])[0],
        optim={"gen": adam, "disc": adam},
        batch_size=batch_size,
    )
