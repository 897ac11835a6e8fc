"""SNGAN with labels: the projection discriminator (Miyato & Koyama 2018, arXiv:1802.05637).

D adds the inner product of its features with a vector of the class to its score (equation 3), and G's
BatchNorm has a scale and a shift for each class. All else is as in ``sngan``. It is a model of its own,
because a card says whether a model needs labels, and a run with labels is also scored by them.

Deviation: fakes have the labels of the batch, so they follow the data's class frequencies. In the authors'
code all classes are equally likely.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from baselines.checks import labelled
from baselines.family import judged
from baselines.gan import Batch, DataSpec, Draw, Gan, Nets, card
from baselines.groups import grouped
from baselines.sngan import Setup, gan


def d(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """The hinge loss (equation 16 of arXiv:1802.05957), given the labels."""
    label = batch["label"]
    real = nets["disc"](batch["image"], label)
    fake = nets["disc"](nets["gen"](draw["z"], label), label)
    return judged(F.relu(1 - real).mean() + F.relu(1 + fake).mean(), real, fake)


def g(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 17 there: G maximises E D(G(z, y), y)."""
    label = batch["label"]
    loss = -nets["disc"](nets["gen"](draw["z"], label), label).mean()
    return loss, {"g_loss": loss}


@card(
    paper="Miyato & Koyama, cGANs with Projection Discriminator, arXiv:1802.05637",
    year=2018,
    needs={"label"},
)
@grouped
def sngan_projection(data: DataSpec, *, setup: Setup = Setup()) -> Gan:
    """``sngan`` with labels."""
    labelled(data)
    return gan(data, d, g, setup, n_classes=data.n_classes)
