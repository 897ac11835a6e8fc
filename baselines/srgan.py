"""SRGAN: photo-realistic single-image super-resolution (Ledig et al. 2016, arXiv:1609.04802).

The generator gets the image downsampled by ``scale``, and restores it. ``generate`` gets the original, as the
losses do, and downsamples it itself.

Deviations:

- 32 filters, so that a laptop's CPU can train it. The paper has 64 (``width=64``).
- The output ends in tanh.
- Low-resolution images come from antialiased bicubic resampling. The paper blurs and subsamples.
- Images of 8 to 32 pixels are used as a whole. The paper crops 96×96.
- ``content=pixel`` is the paper's SRGAN-MSE. What the paper calls SRGAN is ``content=vgg19`` (VGG54).
- G starts untrained (``warmup_steps=0``). In the paper it starts from a trained SRResNet.
- The learning rate is constant. The paper makes 10⁵ updates at 1e-4, then 10⁵ at 1e-5.

Letters: r scale, L and M height and width of low-resolution images.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import cache, partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.checks import at_least, fraction, multiples_of, positive
from baselines.gan import Adam, Batch, DataSpec, Draw, Gan, Linear, Log, Nets, Update, card
from baselines.vanilla import cross_entropy, share

Content = Callable[[Tensor, Tensor], Tensor]
"""Super-resolved and original images (B, C, H, W) -> a scalar."""


# ---------------------------------------------------------------- resampling


def downsample(image: Tensor, scale: int) -> Tensor:
    """(B, C, H, W) -> (B, C, H/r, W/r) in [-1, 1], bicubic with antialiasing."""
    size = (image.shape[-2] // scale, image.shape[-1] // scale)
    return F.interpolate(image, size, mode="bicubic", antialias=True).clamp(-1, 1)


def scale_for(data: DataSpec) -> int:
    """4, or 2 for images smaller than 16 pixels."""
    return 4 if min(data.height, data.width) >= 16 else 2


# ---------------------------------------------------------------- networks (figure 4)


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


def generator(scale: int, n_blocks: int, width: int, data: DataSpec) -> nn.Sequential:
    """Low-resolution images (B, C, L, M) -> images (B, C, L·r, M·r) in [-1, 1]."""

    def conv(n_in: int, n_out: int, kernel: int = 3) -> nn.Conv2d:
        return nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2)

    blocks = [
        Residual(
            conv(width, width), nn.BatchNorm2d(width), nn.PReLU(), conv(width, width), nn.BatchNorm2d(width)
        )
        for _ in range(n_blocks)
    ]
    upsampling: list[nn.Module] = []
    for _ in range(scale.bit_length() - 1):
        upsampling += [conv(width, 4 * width), nn.PixelShuffle(2), nn.PReLU()]
    return nn.Sequential(
        conv(data.channels, width, 9),
        nn.PReLU(),
        Residual(*blocks, conv(width, width), nn.BatchNorm2d(width)),
        *upsampling,
        conv(width, data.channels, 9),
        nn.Tanh(),
    )


def discriminator(width: int, data: DataSpec) -> nn.Sequential:
    """Images (B, C, H, W) -> the logit (B,) that each is an original."""
    layers: list[nn.Module] = [nn.Conv2d(data.channels, width, 3, padding=1), nn.LeakyReLU(0.2)]
    n_in, height, breadth = width, data.height, data.width
    for n_out, stride in (
        (width, 2),
        (2 * width, 1),
        (2 * width, 2),
        (4 * width, 1),
        (4 * width, 2),
        (8 * width, 1),
        (8 * width, 2),
    ):
        layers += [
            nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.LeakyReLU(0.2),
        ]
        n_in, height, breadth = n_out, -(-height // stride), -(-breadth // stride)
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(n_in * height * breadth, 16 * width),
        nn.LeakyReLU(0.2),
        nn.Linear(16 * width, 1),
        nn.Flatten(0),
    )


# ---------------------------------------------------------------- content losses


class Standardize(nn.Module):
    """Images in [-1, 1] with one or three channels -> three channels, with ImageNet's mean and deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = ((x + 1) / 2 - self.mean) / self.std
        return y


@cache
def vgg19() -> nn.Sequential:
    """VGG19 up to its last convolution's activation, φ5,4, with torchvision's ImageNet weights, frozen.

    Images (B, 1 or 3, H, W) in [-1, 1] -> features (B, 512, H/16, W/16).

    Raises:
        ValueError: the weights are not in torch.hub's folder, and cannot be downloaded.
    """
    from torchvision.models import VGG19_Weights
    from torchvision.models.vgg import cfgs, make_layers

    weights = VGG19_Weights.IMAGENET1K_V1
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20.0)  # seconds; torch.hub sets none
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"content=vgg19 needs torchvision's VGG19 weights ({error}): put {weights.url} into "
            f"{torch.hub.get_dir()}/checkpoints, or use content=pixel"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
    net = make_layers(cfgs["E"])[:36]
    net.load_state_dict({key: state[f"features.{key}"] for key in net.state_dict()})
    return nn.Sequential(Standardize(), *net).eval().requires_grad_(False)


def pixel_loss(restored: Tensor, image: Tensor) -> Tensor:
    """Equation 4: the mean squared error of pixels."""
    return F.mse_loss(restored, image)


def vgg19_loss(restored: Tensor, image: Tensor) -> Tensor:
    """Equation 5: the mean squared error of VGG19's features φ5,4, scaled as in section 3.2."""
    vgg = vgg19().to(image.device)
    return F.mse_loss(vgg(restored) / 12.75, vgg(image) / 12.75)


# ---------------------------------------------------------------- losses and model


def d(nets: Nets, batch: Batch, draw: Draw, scale: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 2: D tells originals from restored images."""
    image = batch["image"]
    real, fake = nets["disc"](image), nets["disc"](nets["gen"](downsample(image, scale)))
    loss = cross_entropy(real, real=True) + cross_entropy(fake, real=False)
    return loss, {"d_loss": loss, "d_acc_real": share(real > 0), "d_acc_fake": share(fake <= 0)}


def g(
    nets: Nets,
    batch: Batch,
    draw: Draw,
    scale: int,
    content: Content,
    warmup_steps: int,
    adversarial: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Equation 3: content loss + ``adversarial`` × the loss of equation 6, -log D(G(low))."""
    image = batch["image"]
    restored = nets["gen"](downsample(image, scale))
    pixel = pixel_loss(restored, image)
    loss = content(restored, image) + adversarial * cross_entropy(nets["disc"](restored), real=True)
    loss = torch.where(batch["step"] < warmup_steps, pixel, loss)
    return loss, {"g_loss": loss, "pixel_loss": pixel}


@card(
    paper="Ledig et al., Photo-Realistic Single Image Super-Resolution Using a GAN, arXiv:1609.04802",
    year=2016,
    task="super-resolution",
)
def srgan(
    data: DataSpec,
    *,
    scale: Literal[2, 4] | None = None,
    content: Literal["pixel", "vgg19"] = "pixel",
    adversarial: Annotated[float, Log(1e-4, 1e-1)] = 1e-3,
    warmup_steps: int = 0,
    n_blocks: int = 16,
    width: int = 32,
    lr: Annotated[float, Log(1e-5, 1e-2)] = 1e-4,
    beta1: Annotated[float, Linear(0.0, 0.9)] = 0.9,
    beta2: Annotated[float, Linear(0.9, 0.999)] = 0.999,
    batch_size: Annotated[int, Log(8, 128)] = 16,
) -> Gan:
    """``scale``: None means 4, or 2 for images smaller than 16 pixels. ``adversarial``: weight of equation 6.
    ``warmup_steps``: iterations at the start in which G has only the pixel loss."""
    r = scale or scale_for(data)
    multiples_of(r, data)
    at_least(0, adversarial=adversarial, warmup_steps=warmup_steps)
    at_least(1, n_blocks=n_blocks, width=width)
    at_least(2, batch_size=batch_size)
    positive(lr=lr)
    fraction(beta1=beta1, beta2=beta2)
    content_loss: Content = pixel_loss
    if content == "vgg19":
        if min(data.height, data.width) < 16:
            raise ValueError(f"content=vgg19 needs images of 16 pixels, not {data.height}x{data.width}")
        vgg19()
        content_loss = vgg19_loss

    g_loss = partial(g, scale=r, content=content_loss, warmup_steps=warmup_steps, adversarial=adversarial)
    adam = Adam(lr, (beta1, beta2))
    return Gan(
        build=lambda: {"gen": generator(r, n_blocks, width, data), "disc": discriminator(width, data)},
        noise={},
        updates=(Update("disc", partial(d, scale=r)), Update("gen", g_loss)),
        generate=lambda nets, batch, draw: nets["gen"].eval(downsample(batch["image"], r)),
        discriminate=lambda nets, batch: nets["disc"].eval(batch["image"]),
        optim={"gen": adam, "disc": adam},
        batch_size=batch_size,
        low_resolution=lambda batch: downsample(batch["image"], r),
    )
