"""LSGAN: least squares instead of cross-entropy (Mao et al. 2016, arXiv:1611.04076).

Adam's settings are the paper's for handwritten characters. With ``sigmoid=true`` the loss is that of Lucic et
al.'s code, which compares the sigmoids of the scores with the targets.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from baselines.family import Setup, Training, gan, judged, scores
from baselines.gan import Batch, DataSpec, Draw, Gan, Nets, card
from baselines.groups import grouped


def d(nets: Nets, batch: Batch, draw: Draw, sigmoid: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 9, the 0-1 coding: D pulls real scores to 1 and fake ones to 0."""
    real, fake = scores(nets, batch, draw)
    if sigmoid:
        real, fake = real.sigmoid(), fake.sigmoid()
    return judged(0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean(), real, fake, threshold=0.5)


def g(nets: Nets, batch: Batch, draw: Draw, sigmoid: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 9: G pulls the scores of its samples to 1."""
    fake = nets["disc"](nets["gen"](draw["z"]))
    loss = 0.5 * ((fake.sigmoid() if sigmoid else fake) - 1).square().mean()
    return loss, {"g_loss": loss}


@card(paper="Mao et al., Least Squares Generative Adversarial Networks, arXiv:1611.04076", year=2016)
@grouped
def lsgan(
    data: DataSpec, *, setup: Setup = Setup(), sigmoid: bool = False, training: Training = Training()
) -> Gan:
    """``sigmoid``: compare the sigmoids of the scores with the targets, not the scores themselves."""
    losses = partial(d, sigmoid=sigmoid), partial(g, sigmoid=sigmoid)
    halfway = 0.0 if sigmoid else 0.5  # the score halfway between the two targets
    return gan(data, *losses, setup, training, threshold=halfway)
