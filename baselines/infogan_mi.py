"""InfoGAN: codes that G may not ignore (Chen et al. 2016, arXiv:1606.03657).

Beside z, G gets a code: a class of ``n_codes``, all equally likely, and ``n_continuous`` numbers U(-1, 1).
A network Q guesses the code from the image. Its log likelihood is a lower bound of the mutual information
of code and image (equation 5), and D and Q, and G, maximise it beside the losses of ``nsgan`` (equation 6).
Q shares all of D but the last layer. The continuous part of Q is a Gaussian with mean and deviation.

Named ``infogan_mi``, because ``net=infogan`` are the networks of Lucic et al., which are like this paper's.
Codes, z and learning rates are those of the paper for MNIST: 10 classes, 2 numbers, 62 of z, 2e-4 for D and
1e-3 for G. Logs: ``code_acc``, the fraction of classes that Q guesses, and ``code_error``, the mean squared
error of its means.

Deviations: the paper's Q has a hidden layer of 128 units, and its weight of the continuous part is chosen
by hand to match its scale; here it is ``continuous_weight``, 0.1. No label is used or learned from.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines import family
from baselines.checks import at_least
from baselines.family import DiscNorm, Net, Setup, Training, judged
from baselines.gan import Batch, Choice, DataSpec, Draw, Gan, Linear, Log, Nets, Normal, Uniform, card
from baselines.groups import grouped
from baselines.infogan import small_normal
from baselines.vanilla import cross_entropy, dense, share


class Guesser(nn.Module):
    """Images (B, C, H, W) -> D's logit (B,), and Q's guess of the code (B, n_codes + 2 · n_continuous).

    Q's numbers are the logits of the class, the means and the logarithms of the deviations.
    """

    def __init__(self, disc: nn.Sequential, n_guess: int, *, small: bool) -> None:
        super().__init__()
        *hidden, last, _ = disc
        assert isinstance(last, nn.Linear)
        self.features, self.source = nn.Sequential(*hidden), last
        guess = dense(last.in_features, n_guess)
        self.guess = small_normal(guess) if small else guess

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(images)
        return self.source(x).squeeze(1), self.guess(x)


def code_of(draw: Draw, n_codes: int) -> tuple[Tensor, Tensor]:
    """The class (B,) and G's input (B, z + n_codes + n_continuous)."""
    chosen = (draw["class"].squeeze(1) * n_codes).long().clamp(max=n_codes - 1)
    return chosen, torch.cat([draw["z"], F.one_hot(chosen, n_codes).float(), draw["continuous"]], dim=1)


def information(guess: Tensor, chosen: Tensor, continuous: Tensor, n_codes: int) -> tuple[Tensor, Tensor]:
    """Equation 5 without the constant entropies: E log Q(c|x) of the class, and of the numbers, (), ()."""
    logits, rest = guess[:, :n_codes], guess[:, n_codes:]
    mean, log_deviation = rest.chunk(2, dim=1)
    error = (continuous - mean) * torch.exp(-log_deviation)
    of_numbers = -0.5 * error.square() - log_deviation - 0.5 * math.log(2 * math.pi)
    return -F.cross_entropy(logits, chosen), of_numbers.sum(1).mean()


def d(
    nets: Nets, batch: Batch, draw: Draw, *, n_codes: int, weight: float, continuous_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 6 for D and Q."""
    chosen, code = code_of(draw, n_codes)
    real, _ = nets["disc"](batch["image"])
    fake, guess = nets["disc"](nets["gen"](code))
    of_class, of_numbers = information(guess, chosen, draw["continuous"], n_codes)
    loss = cross_entropy(real, real=True) + cross_entropy(fake, real=False)
    loss, logs = judged(loss - weight * of_class - continuous_weight * of_numbers, real, fake)
    mean = guess[:, n_codes:].chunk(2, dim=1)[0]
    right = share(guess[:, :n_codes].argmax(1) == chosen)
    return loss, {**logs, "code_acc": right, "code_error": F.mse_loss(mean, draw["continuous"])}


def g(
    nets: Nets, batch: Batch, draw: Draw, *, n_codes: int, weight: float, continuous_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 6 for G."""
    chosen, code = code_of(draw, n_codes)
    fake, guess = nets["disc"](nets["gen"](code))
    of_class, of_numbers = information(guess, chosen, draw["continuous"], n_codes)
    loss = cross_entropy(fake, real=True) - weight * of_class - continuous_weight * of_numbers
    return loss, {"g_loss": loss}


@card(
    paper="Chen et al., InfoGAN: Interpretable Representation Learning by Information Maximizing GANs, "
    "arXiv:1606.03657",
    year=2016,
)
@grouped
def infogan_mi(
    data: DataSpec,
    *,
    net: Net = "mlp",
    disc_norm: DiscNorm = "own",
    latent_dim: Annotated[int, Log(16, 256)] = 62,
    n_codes: int = 10,
    n_continuous: int = 2,
    n_critic: Annotated[int, Choice((1, 2, 5))] = 1,
    weight: Annotated[float, Log(0.01, 10.0)] = 1.0,
    continuous_weight: Annotated[float, Linear(0.0, 1.0)] = 0.1,
    training: Training = Training(lr=1e-3, d_lr=2e-4),
) -> Gan:
    """``weight``: λ of the class. ``n_codes``, ``n_continuous``: size of the code."""
    at_least(2, n_codes=n_codes)
    at_least(1, n_continuous=n_continuous)
    at_least(0, weight=weight, continuous_weight=continuous_weight)
    d_loss = partial(d, n_codes=n_codes, weight=weight, continuous_weight=continuous_weight)
    g_loss = partial(g, n_codes=n_codes, weight=weight, continuous_weight=continuous_weight)
    setup = Setup(net, disc_norm, "normal", latent_dim, n_critic)
    model = family.gan(data, d_loss, g_loss, setup, training)

    def build() -> dict[str, nn.Module]:
        disc = family.discriminator(net, disc_norm, data)
        return {
            "gen": family.generator(net, latent_dim + n_codes + n_continuous, data),
            "disc": Guesser(disc, n_codes + 2 * n_continuous, small=net == "infogan"),
        }

    return replace(
        model,
        build=build,
        noise={
            "z": Normal((latent_dim,)),
            "class": Uniform((1,)),
            "continuous": Uniform((n_continuous,), -1.0, 1.0),
        },
        generate=lambda nets, batch, draw: nets["gen"].eval(code_of(draw, n_codes)[1]),
        discriminate=lambda nets, batch: nets["disc"].eval(batch["image"])[0],
    )
