"""Layers that train alone or stacked: no global random numbers, buffers changed in place.

B examples, C channels, H height, W width, O outputs, I inputs, K kernel size.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

Module = TypeVar("Module", bound=nn.Module)

MASK_32 = 2**32
LCG = (6364136223846793005, 1442695040888963407)
"""Multiplier and increment of the 64-bit generator of Knuth's MMIX."""
SECOND_KEY = 3935559000370003845
MIX = (0x7FEB352D, 0x846CA68B - MASK_32)
"""Odd multipliers that spread a bit over a 32-bit word (Wellons' lowbias32), as signed integers."""


class Dropout(nn.Module):
    """Dropout that draws from its own stream: a buffer, advanced in place by each training forward.

    ``nn.Dropout`` draws from PyTorch's global generator, which all seeds of a stack would share. Here
    the state comes from the initialisation's generator, so a seed's masks are its own, and saving the
    buffers saves the stream. Each element's bits are a hash of its index and of the state.

    Args:
        p: probability of a zero, in [0, 1). The others are scaled by 1 / (1 - p).
    """

    state: Tensor

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p={p} must be at least 0 and below 1")
        self.p = p
        self.register_buffer("state", torch.randint(2**63 - 1, ()))

    def forward(self, x: Tensor) -> Tensor:
        """(B, …) -> the same shape."""
        if not self.training or self.p == 0:
            return x
        keep = self.bits(x.numel(), x.device) >= int(self.p * MASK_32) - MASK_32 // 2
        return x * (keep.view(x.shape) * (1 / (1 - self.p)))

    def bits(self, n: int, device: torch.device) -> Tensor:
        """The next ``n`` uniform int32."""
        state = self.state.mul_(LCG[0]).add_(LCG[1])
        first = (state >> 32).int()  # the high half of such a generator is the good one
        second = ((state * SECOND_KEY) >> 32).int()
        word = (torch.arange(n, dtype=torch.int32, device=device) ^ first).mul_(MIX[0])
        word ^= word >> 15
        return word.bitwise_xor_(second).mul_(MIX[1])

    def extra_repr(self) -> str:
        return f"p={self.p}"


class UpConv2d(nn.Conv2d):
    """Nearest-neighbour upsampling by 2 followed by a 3×3 convolution, in one go.

    (B, I, H, W) -> (B, O, 2H, 2W). Each output pixel sees only 2×2 different inputs, so the pair is
    a transposed convolution with a 4×4 kernel whose taps are sums of the 3×3 ones: the same function
    and parameters for 4/9 of the multiplications.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        taps = self.weight.flip(2, 3).transpose(0, 1)  # (I, O, 3, 3)
        taps = F.pad(taps, (0, 1)) + F.pad(taps, (1, 0))
        taps = F.pad(taps, (0, 0, 0, 1)) + F.pad(taps, (0, 0, 1, 0))  # (I, O, 4, 4)
        return F.conv_transpose2d(x, taps, self.bias, stride=2, padding=1)


class SpectralNorm(nn.Module):
    """Weight -> weight / σ, where σ is its largest singular value (Miyato et al. 2018, Algorithm 1).

    One power iteration per training forward, its left vector ``u`` (O,) kept in a buffer. As in the
    paper, σ = uᵀWv is differentiated through W alone. A weight (O, I, K, K) is taken as (O, I·K·K).
    In float32 whatever the network computes in: bfloat16 holds three digits of σ.
    """

    u: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("u", F.normalize(torch.randn(len(weight)), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        with torch.autocast(weight.device.type, enabled=False):
            with torch.no_grad():
                v = F.normalize(matrix.T @ self.u, dim=0)
                u = F.normalize(matrix @ v, dim=0)
                if self.training:
                    self.u.copy_(u)
            return weight / (u @ (matrix @ v))


def batch_norm(n: int) -> nn.BatchNorm2d:
    """As ``BatchNormalization(momentum=0.8)`` in Keras."""
    return nn.BatchNorm2d(n, eps=1e-3, momentum=0.2)


def spectral_norm(net: Module) -> Module:
    """Put :class:`SpectralNorm` on every linear and convolutional weight of ``net``."""
    for layer in list(net.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))
    return net


def glorot(net: Module) -> Module:
    """Start every dense and convolutional layer as Keras does: Glorot-uniform weights, zero bias."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net
