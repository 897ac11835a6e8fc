"""VAE: a variational autoencoder, the yardstick that is no GAN (Kingma & Welling 2014, arXiv:1312.6114).

One network with two halves: the encoder gives mean and deviation of q(z|x), the decoder rebuilds x from z.
There is no discriminator. Equation 10 is maximised, with one sample of z for each image (section 2.4). The
likelihood is Bernoulli (appendix C.1), with pixel values scaled to [0, 1] as its targets.

The decoder is the loss family's generator, and its last layer gives logits. The encoder is the family's
discriminator, with a last layer of 2 × latent_dim numbers; a softplus makes the deviations positive. With
``net=infogan`` both are those of Lucic et al. (2018; google/compare_gan), whose decoder has ReLU.

Deviations: the paper's networks have one hidden layer of tanh units and no BatchNorm, and it uses AdaGrad.
Lucic et al. take the mean of the likelihood over the channels, here it is the sum: on colour images their KL
term weighs three times as much.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines import family
from baselines.checks import at_least, fraction, multiples_of, positive
from baselines.family import Net
from baselines.gan import Adam, Batch, DataSpec, Draw, Gan, Linear, Log, Nets, Normal, Update, card
from baselines.infogan import Stretch, small_normal
from baselines.vanilla import dense

SMALLEST = 1e-6
"""The smallest deviation of q(z|x), as in Lucic et al.'s code: its logarithm stays finite."""

SQUASH = (nn.Tanh, nn.Sigmoid, Stretch)
"""What takes a generator's output into [-1, 1]."""


def encoder(net: Net, latent_dim: int, data: DataSpec, *, norm: bool) -> nn.Sequential:
    """Images (B, C, H, W) -> (B, 2 · latent_dim). ``norm``: with BatchNorm."""
    *hidden, last, _ = family.discriminator(net, "batch" if norm else "none", data)
    assert isinstance(last, nn.Linear)
    output = dense(last.in_features, 2 * latent_dim)
    return nn.Sequential(*hidden, small_normal(output) if net == "infogan" else output)


def decoder(net: Net, latent_dim: int, data: DataSpec) -> nn.Sequential:
    """z (B, latent_dim) -> logits (B, C, H, W) of the pixels."""
    layers = [m for m in family.generator(net, latent_dim, data) if not isinstance(m, SQUASH)]
    if net == "infogan":
        layers = [nn.ReLU() if isinstance(m, nn.LeakyReLU) else m for m in layers]
    return nn.Sequential(*layers)


class Autoencoder(nn.Module):
    """Both halves."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, z: Tensor, image: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor] | Tensor:
        """z (B, n) of N(0, I) -> a sample, in [-1, 1].

        With ``image``: logits of it rebuilt, and mean and deviation (B, n) of q(z|x). A sample of q(z|x) is
        its mean plus its deviation times ``z`` (section 2.4).
        """
        if image is None:
            return torch.tanh(self.decoder(z) / 2)
        mean, spread = self.encoder(image).chunk(2, dim=1)
        deviation = F.softplus(spread) + SMALLEST
        return self.decoder(mean + deviation * z), mean, deviation


def negative_likelihood(image: Tensor, logits: Tensor) -> Tensor:
    """Appendix C.1: -log p(x|z) of each image (B,)."""
    each = F.binary_cross_entropy_with_logits(logits, (image + 1) / 2, reduction="none")
    return each.flatten(1).sum(1)


def divergence(mean: Tensor, deviation: Tensor) -> Tensor:
    """Appendix B: KL(q(z|x) ‖ N(0, I)) of each image (B,)."""
    variance = deviation.square()
    return 0.5 * (mean.square() + variance - variance.log() - 1).sum(1)


def loss(nets: Nets, batch: Batch, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 10, negative: the mean of -log p(x|z) + KL(q(z|x) ‖ p(z))."""
    image = batch["image"]
    logits, mean, deviation = nets["gen"](draw["z"], image)
    reconstruction = negative_likelihood(image, logits).mean()
    kl = divergence(mean, deviation).mean()
    return reconstruction + kl, {"g_loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}


@card(paper="Kingma & Welling, Auto-Encoding Variational Bayes, arXiv:1312.6114", year=2014)
def vae(
    data: DataSpec,
    *,
    net: Net = "mlp",
    encoder_norm: Literal["none", "batch"] = "none",
    latent_dim: Annotated[int, Log(2, 256)] = 64,
    lr: Annotated[float, Log(1e-5, 1e-2)] = 1e-3,
    beta1: Annotated[float, Linear(0.0, 0.9)] = 0.9,
    beta2: Annotated[float, Linear(0.9, 0.999)] = 0.999,
    batch_size: Annotated[int, Log(32, 512)] = 64,
) -> Gan:
    """``encoder_norm``: BatchNorm in the encoder. The decoder has it always."""
    if data.points:
        raise ValueError("its likelihood is one of pixels, and these are points in the plane; take a GAN")
    if net != "mlp":
        multiples_of(4, data)
    at_least(1, latent_dim=latent_dim)
    at_least(2, batch_size=batch_size)
    positive(lr=lr)
    fraction(beta1=beta1, beta2=beta2)

    def build() -> dict[str, nn.Module]:
        norm = encoder_norm == "batch"
        encoding = encoder(net, latent_dim, data, norm=norm)
        return {"gen": Autoencoder(encoding, decoder(net, latent_dim, data))}

    return Gan(
        build=build,
        noise={"z": Normal((latent_dim,))},
        updates=(Update("gen", loss),),
        generate=lambda nets, batch, draw: nets["gen"].eval(draw["z"]),
        optim={"gen": Adam(lr, (beta1, beta2))},
        batch_size=batch_size,
    )
