"""NSGAN: the GAN with the non-saturating loss (Goodfellow et al. 2014, arXiv:1406.2661).

Differences from ``vanilla``, which follows an article's procedure: D makes one step on the sum of its two
terms, fakes come from G in training mode, and network, prior and normalisation can be chosen. Adam's settings
are those of DCGAN.
"""

from __future__ import annotations

from torch import Tensor

from baselines.family import Setup, Training, gan, judged, scores
from baselines.gan import Batch, DataSpec, Draw, Gan, Nets, card
from baselines.groups import grouped
from baselines.vanilla import cross_entropy


def d(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 1: D maximises E log D(x) + E log(1 - D(G(z)))."""
    real, fake = scores(nets, batch, draw)
    return judged(cross_entropy(real, real=True) + cross_entropy(fake, real=False), real, fake)


def g(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Section 3: G maximises E log D(G(z))."""
    loss = cross_entropy(nets["disc"](nets["gen"](draw["z"])), real=True)
    return loss, {"g_loss": loss}


@card(paper="Goodfellow et al., Generative Adversarial Nets, section 3, arXiv:1406.2661", year=2014)
@grouped
def nsgan(data: DataSpec, *, setup: Setup = Setup(), training: Training = Training()) -> Gan:
    """The non-saturating GAN."""
    return gan(data, d, g, setup, training)
