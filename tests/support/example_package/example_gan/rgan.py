"""RGAN: D says which of two images is more real (Jolicoeur-Martineau 2018, arXiv:1807.00734)."""

from dataclasses import replace
from typing import Annotated

import torch.nn.functional as F

from baselines.family import Net, scores
from baselines.gan import DataSpec, Gan, Log, Update, card
from baselines.nsgan import nsgan


def d(nets, batch, draw):
    """Equation 9: D should score each real image higher than a fake one."""
    real, fake = scores(nets, batch, draw)
    loss = F.softplus(fake - real).mean()
    return loss, {"d_loss": loss}


def g(nets, batch, draw):
    """Equation 10: D's loss with real and fake exchanged."""
    real, fake = scores(nets, batch, draw)
    loss = F.softplus(real - fake).mean()
    return loss, {"g_loss": loss}


@card(paper="Jolicoeur-Martineau, The Relativistic Discriminator, arXiv:1807.00734", year=2018)
def rgan(
    data: DataSpec,
    *,
    net: Net = "mlp",
    lr: Annotated[float, Log(1e-5, 1e-2)] = 2e-4,
    batch_size: Annotated[int, Log(32, 512)] = 64,
) -> Gan:
    """Only differences of scores have a meaning, so there is no threshold."""
    gan = nsgan(data, net=net, lr=lr, batch_size=batch_size)
    return replace(gan, updates=(Update("disc", d), Update("gen", g)), threshold=None)
