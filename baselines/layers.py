"""Layers that work for one seed and for a stack: no global random numbers, buffers changed in place.

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
"""Odd multipliers that mix the bits of a 32-bit word (Wellons' lowbias32), as signed integers."""


class Dropout(nn.Module):
    """Dropout with its own random stream, whose state is a buffer.

    ``nn.Dropout`` draws from PyTorch's global generator, which all seeds of a stack would share. Here each
    seed has its own masks: the first state is drawn when the layer is initialised, every forward in training
    mode advances it in place, and saving the buffers saves it. The bits of an element are a hash of its index
    and of the state.

    Args:
        p: probability of a zero, in [0, 1). The other elements are multiplied by 1 / (1 - p).
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
        """``n`` uniform int32 numbers; advances the state."""
        state = self.state.mul_(LCG[0]).add_(LCG[1])
        first = (state >> 32).int()  # the high bits of such a generator are the more random ones
        second = ((state * SECOND_KEY) >> 32).int()
        word = (torch.arange(n, dtype=torch.int32, device=device) ^ first).mul_(MIX[0])
        word ^= word >> 15
        return word.bitwise_xor_(second).mul_(MIX[1])

    def extra_repr(self) -> str:
        return f"p={self.p}"


class UpConv2d(nn.Conv2d):
    """Nearest-neighbour upsampling by 2, then a 3×3 convolution, as one operation.

    (B, I, H, W) -> (B, O, 2H, 2W). Each output pixel depends on only 2×2 input pixels. So the two operations
    together are a transposed convolution with a 4×4 kernel, whose taps are sums of the 3×3 taps. Function and
    parameters are the same; the multiplications are 4/9 as many.
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

    Each forward in training mode makes one power iteration; its left vector ``u`` (O,) is a buffer. As in the
    paper, gradients of σ = uᵀWv go through W only. A weight (O, I, K, K) is reshaped to (O, I·K·K). σ is
    always computed in float32, because bfloat16 has only three digits.
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
    """The equivalent of Keras's ``BatchNormalization(momentum=0.8)``."""
    return nn.BatchNorm2d(n, eps=1e-3, momentum=0.2)


def spectral_norm(net: Module) -> Module:
    """Apply :class:`SpectralNorm` to every linear and convolutional weight of ``net``."""
    for layer in list(net.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))
    return net


def glorot(net: Module) -> Module:
    """Initialise dense and convolutional layers as Keras does: Glorot-uniform weights, zero bias."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net
