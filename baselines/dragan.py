"""DRAGAN: a gradient penalty around the data (Kodali et al. 2017, arXiv:1705.07215).

λ = 10, k = 1. The noise around the data is that of the authors' code, and of Lucic et al.: half the
standard deviation of the batch, times U(0, 1) per pixel, times U(0, 1) per example, where the paper has
N(0, c I). The paper names no optimizer; here it is Adam with DCGAN's settings. The discriminator has no
BatchNorm: the penalty is on each example's own gradient.

The authors' code (kodalinaveen3/DRAGAN) differs from that: Adam with 1e-4 and β = (0.5, 0.9), z ~ U(-1, 1),
batches of 128, and the slope that is penalised is that of D's logit, not of its probability. All of this is
offered: ``lr=1e-4, beta2=0.9, prior=uniform, batch_size=128, slope=logit``. Not offered are its networks,
each with one hidden layer of 128 units, and its pixels in [0, 1].

Deviations from Lucic et al.'s code: there pixels lie in [0, 1], so slopes are twice as large as here, with
pixels in [-1, 1]; and the slope is √(0.0001 + ‖∇D‖²).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

from torch import Tensor

from baselines.checks import at_least
from baselines.family import SetupWithoutNorm, Training, gan, judged
from baselines.gan import Batch, DataSpec, Draw, Gan, Log, Nets, Uniform, card
from baselines.groups import grouped
from baselines.nsgan import g
from baselines.vanilla import cross_entropy
from baselines.wgan_gp import gradient_norm

Slope = Literal["probability", "logit"]


def d(
    nets: Nets, batch: Batch, draw: Draw, penalty: float, slope: Slope = "probability"
) -> tuple[Tensor, dict[str, Tensor]]:
    """Section 2.4: the GAN's loss + λ E (‖∇D(x + δ)‖₂ - 1)², D the probability of "real", or its logit."""
    image = batch["image"]
    near = image + draw["mix"] * 0.5 * image.std() * draw["noise"]
    logit = slope == "logit"
    norm = gradient_norm(lambda x: nets["disc"](x) if logit else nets["disc"](x).sigmoid(), near)
    real, fake = nets["disc"](image), nets["disc"](nets["gen"](draw["z"]))
    loss = cross_entropy(real, real=True) + cross_entropy(fake, real=False)
    loss, logs = judged(loss + penalty * (norm - 1).square().mean(), real, fake)
    return loss, {**logs, "slope": norm.mean()}


@card(paper="Kodali et al., On Convergence and Stability of GANs, arXiv:1705.07215", year=2017)
@grouped
def dragan(
    data: DataSpec,
    *,
    setup: SetupWithoutNorm = SetupWithoutNorm(),
    penalty: Annotated[float, Log(0.1, 100.0)] = 10.0,
    slope: Slope = "probability",
    training: Training = Training(),
) -> Gan:
    """``penalty``: λ. ``slope``: of D's probability, or of its logit, is penalised."""
    at_least(0, penalty=penalty)
    model = gan(data, partial(d, penalty=penalty, slope=slope), g, setup, training)
    noise = {**model.noise, "mix": Uniform((1, 1, 1)), "noise": Uniform(data.shape)}
    return replace(model, noise=noise)
