"""MMGAN: the minimax GAN, whose generator loss saturates (Goodfellow et al. 2014, arXiv:1406.2661).

It is ``nsgan`` with another loss for G.
"""

from __future__ import annotations

from torch import Tensor

from baselines.family import Setup, Training, gan
from baselines.gan import Batch, DataSpec, Draw, Gan, Nets, card
from baselines.groups import grouped
from baselines.nsgan import d
from baselines.vanilla import cross_entropy


def g(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 1: G minimises E log(1 - D(G(z)))."""
    loss = -cross_entropy(nets["disc"](nets["gen"](draw["z"])), real=False)
    return loss, {"g_loss": loss}


@card(paper="Goodfellow et al., Generative Adversarial Nets, equation 1, arXiv:1406.2661", year=2014)
@grouped
def mmgan(data: DataSpec, *, setup: Setup = Setup(), training: Training = Training()) -> Gan:
    """The saturating GAN."""
    return gan(data, d, g, setup, training)
