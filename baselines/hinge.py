"""The hinge loss with spectral normalisation (Miyato et al. 2018, arXiv:1802.05957).

Adam's settings are the paper's setting C (table 1). Spectral normalisation replaces BatchNorm in the
discriminator. The option ``disc_norm`` allows it with other losses, and this loss without it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from baselines.family import Setup, Training, gan, judged, scores
from baselines.gan import Batch, DataSpec, Draw, Gan, Nets, card
from baselines.groups import grouped


def d(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 16: D pushes real scores above 1 and fake ones below -1, and no further."""
    real, fake = scores(nets, batch, draw)
    return judged(F.relu(1 - real).mean() + F.relu(1 + fake).mean(), real, fake)


def g(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 17: G maximises E D(G(z))."""
    loss = -nets["disc"](nets["gen"](draw["z"])).mean()
    return loss, {"g_loss": loss}


@card(paper="Miyato et al., Spectral Normalization for GANs, arXiv:1802.05957", year=2018)
@grouped
def hinge(
    data: DataSpec, *, setup: Setup = Setup(disc_norm="spectral"), training: Training = Training()
) -> Gan:
    """The hinge loss on a spectrally normalised discriminator."""
    return gan(data, d, g, setup, training)
