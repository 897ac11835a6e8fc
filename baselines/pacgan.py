"""PacGAN: a discriminator that sees m samples at once (Lin et al. 2018, arXiv:1712.04086).

Packing (section 3): m images of one source lie side by side along the channels, and D says whether the pack
is real. A generator that lacks modes is then easier to tell from the data, because its packs vary less.
Nothing else changes: the losses are the non-saturating ones of ``nsgan``, and with ``packing=1`` the model is
the paper's base GAN on the same networks. An update takes ``batch_size`` packs: ``batch_size`` × m images.

Networks: those of the loss family, with m times the channels in D's input, and the published ones of
``pacgan_nets.py``. As in the authors' code (fjxmlzn/PacGAN), G makes the m images of the packs in m batches:
its BatchNorm sees batches of ``batch_size`` whatever m is.

Deviations from the authors' code: on points in the plane it updates D and G at the same time, here D comes
first; its batches come in shuffled order, here they are drawn with replacement, and G's update has noise of
its own; it averages the m batches' statistics before it moves G's moving ones, here they move m times.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from baselines import family, pacgan_nets
from baselines.checks import at_least
from baselines.family import DiscNorm, Prior, Setup, Training
from baselines.gan import Choice, DataSpec, Gan, Log, card
from baselines.groups import grouped
from baselines.nsgan import d, g

Net = Literal["mlp", "conv", "infogan", "plane", "stacked_quarter", "stacked_half"]


class Packed(nn.Module):
    """Images (B·m, C, H, W) -> D's scores (B,) of packs of m images that follow each other."""

    def __init__(self, net: nn.Module, packing: int) -> None:
        super().__init__()
        self.net, self.packing = net, packing

    def forward(self, images: Tensor) -> Tensor:
        packs = images.reshape(-1, self.packing * images.shape[1], *images.shape[2:])  # (B, m·C, H, W)
        scores: Tensor = self.net(packs)
        return scores


class Unpacked(nn.Module):
    """z (B·m, n) -> images (B·m, C, H, W), in training as m batches: the first of all packs, the second, …"""

    def __init__(self, net: nn.Module, packing: int) -> None:
        super().__init__()
        self.net, self.packing = net, packing

    def forward(self, z: Tensor) -> Tensor:
        m = self.packing if self.training else 1
        batches = z.reshape(-1, m, z.shape[1]).unbind(1)
        return torch.stack([self.net(batch) for batch in batches], dim=1).flatten(0, 1)


def each_in_a_pack(images: Tensor, packing: int) -> Tensor:
    """Images (B, C, H, W) -> (B·m, C, H, W): each is followed by the next m - 1 of the batch, in a circle."""
    return torch.stack([images.roll(-k, 0) for k in range(packing)], dim=1).flatten(0, 1)


def networks(
    net: Net, latent_dim: int, disc_norm: DiscNorm, data: DataSpec, packs: DataSpec
) -> tuple[nn.Module, nn.Module]:
    """A generator of data, and a discriminator of packs."""
    match net:
        case "mlp" | "conv" | "infogan":
            return family.generator(net, latent_dim, data), family.discriminator(net, disc_norm, packs)
        case _:
            return pacgan_nets.generator(net, latent_dim, data), pacgan_nets.discriminator(net, packs)


@card(paper="Lin et al., PacGAN: The power of two samples in GANs, arXiv:1712.04086", year=2018)
@grouped
def pacgan(
    data: DataSpec,
    *,
    packing: Annotated[int, Choice((2, 3, 4))] = 2,
    net: Annotated[Net, Choice(("mlp", "conv", "infogan"))] = "mlp",
    disc_norm: DiscNorm = "own",
    prior: Prior = "normal",
    latent_dim: Annotated[int, Log(2, 256)] = 100,
    n_critic: Annotated[int, Choice((1, 2, 5))] = 1,
    training: Training = Training(),
) -> Gan:
    """``packing``: m. ``batch_size`` counts packs. The published networks have a normalisation of their own,
    whatever ``disc_norm`` is."""
    at_least(1, packing=packing)
    pacgan_nets.fits(net, data)
    packs = replace(data, channels=packing * data.channels)
    theirs = net if net in ("mlp", "conv", "infogan") else "mlp"
    model = family.gan(data, d, g, Setup(theirs, disc_norm, prior, latent_dim, n_critic), training)

    def build() -> dict[str, nn.Module]:
        gen, disc = networks(net, latent_dim, disc_norm, data, packs)
        return {"gen": Unpacked(gen, packing), "disc": Packed(disc, packing)}

    return replace(
        model,
        build=build,
        batch_size=packing * training.batch_size,
        packing=packing,
        discriminate=lambda nets, batch: nets["disc"].eval(each_in_a_pack(batch["image"], packing)),
    )
