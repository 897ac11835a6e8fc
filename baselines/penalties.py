"""Zero-centred gradient penalties of a discriminator: R1 on real images, R2 on generated ones.

R1 (Mescheder et al. 2018, arXiv:1801.04406, equation 9) adds γ/2 · E ‖∇D(x)‖² to D's loss. R2 (equation 10)
is the same on generated images. B examples, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from baselines.gan import Batch, Draw, Loss, Nets


def scores_and_slopes(score: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """``score`` (B,) of x (B, C, H, W), and ‖∇ₓ score‖² of each example (B,), with one call of ``score``.

    ``score`` must map each example on its own.
    """

    def total(x: Tensor) -> tuple[Tensor, Tensor]:
        scores = score(x)
        return scores.sum(), scores

    gradient, scores = torch.func.grad(total, has_aux=True)(x)
    return scores, gradient.square().sum(dim=(1, 2, 3))


def with_r1(
    loss: Loss, nets: Nets, batch: Batch, draw: Draw, *, r1: float, **numbers: float
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """A loss of D + r1/2 · E ‖∇D(x)‖² on real images x. ``numbers`` are the loss's own keywords.

    The slope is taken in evaluation mode: spectral normalisation then keeps its vectors as they are, which
    ``torch.func.grad`` asks for. D has no other layers to which the mode matters.
    """
    value, logs = loss(nets, batch, draw, **numbers)
    slope = scores_and_slopes(nets["disc"].eval, batch["image"])[1].mean()
    value = value + r1 / 2 * slope
    return value, {**logs, "d_loss": value, "r1": slope}
