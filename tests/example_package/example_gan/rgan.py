"""RGAN: D says which of two images is the more real (Jolicoeur-Martineau 2018, arXiv:1807.00734)."""

from dataclasses import replace

import torch.nn.functional as F

from baselines.gan import DataSpec, Gan, Update, card
from baselines.networks import BatchSize, LearningRate, Net, scores
from baselines.nsgan import nsgan


def d(nets, batch, draw):
    """Equation 9: D scores each real image above a fake one."""
    real, fake = scores(nets, batch, draw)
    loss = F.softplus(fake - real).mean()
    return loss, {"d_loss": loss}


def g(nets, batch, draw):
    """Equation 10: G wants the opposite."""
    real, fake = scores(nets, batch, draw)
    loss = F.softplus(real - fake).mean()
    return loss, {"g_loss": loss}


@card(paper="Jolicoeur-Martineau, The Relativistic Discriminator, arXiv:1807.00734", year=2018)
def rgan(data: DataSpec, *, net: Net = "mlp", lr: LearningRate = 2e-4, batch_size: BatchSize = 64) -> Gan:
    """Only differences of scores mean something: no threshold says "real"."""
    gan = nsgan(data, net=net, lr=lr, batch_size=batch_size)
    return replace(gan, updates=(Update("disc", d), Update("gen", g)), threshold=None)
