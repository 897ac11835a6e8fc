"""The vision transformers of DINOv2 (Oquab et al. 2023, arXiv:2304.07193), to be filled with their weights.

torch-fidelity takes them from ``torch.hub``, which downloads code and executes it, and takes no file of
weights. This is the same network in evaluation: the class token of the last layer, after its norm. Names of
parameters are those of the published files. xFormers is not used.

Letters beside tensors: B images of a batch, T tokens, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 14
HEAD = 64
"""Features of one head of the attention."""
SHAPES: Mapping[str, tuple[int, int]] = {
    "dinov2-vit-s-14": (384, 12),
    "dinov2-vit-b-14": (768, 12),
    "dinov2-vit-l-14": (1024, 24),
    "dinov2-vit-g-14": (1536, 40),
}
"""Features and blocks of each network."""


def network(name: str, state: Mapping[str, Tensor]) -> nn.Module:
    """The network of this name: normalised images (B, 3, H, W), sides multiples of 14 -> (B, D).

    Raises:
        ValueError, KeyError, RuntimeError: the weights are not those of this network.
    """
    width, depth = SHAPES[name]
    found = state["cls_token"].shape[-1], sum(key.endswith(".norm1.weight") for key in state)
    if found != (width, depth):
        raise ValueError(f"{found[0]} features and {found[1]} blocks, not {width} and {depth}")
    with torch.device("meta"):  # the weights are assigned
        net = VisionTransformer(
            width, depth, state["pos_embed"].shape[1], gated="blocks.0.mlp.w3.weight" in state
        )
    net.load_state_dict(state, assign=True)
    return net


class VisionTransformer(nn.Module):
    """Patches and a class token -> blocks -> the class token, normalised."""

    def __init__(self, width: int, depth: int, n_tokens: int, *, gated: bool) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, n_tokens, width))
        self.mask_token = nn.Parameter(torch.empty(1, width))  # for training alone
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)
        self.blocks = nn.ModuleList(Block(width, gated=gated) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embed.get_submodule("proj")(images)  # (B, D, H / 14, W / 14)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches.flatten(2).mT], dim=1)
        tokens = tokens + self._positions(*patches.shape[-2:])
        for block in self.blocks:
            tokens = block(tokens)
        normed: Tensor = self.norm(tokens)
        return normed[:, 0]

    def _positions(self, height: int, width: int) -> Tensor:
        """The embedding of the places (1, T, D). The published one is of another grid, and interpolated."""
        side = math.isqrt(self.pos_embed.shape[1] - 1)
        if (height, width) == (side, side):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        # Their interpolation is by a factor for a grid that is 0.1 larger, so this one is, too.
        scale = ((height + 0.1) / side, (width + 0.1) / side)
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).mT], dim=1)


class Block(nn.Module):
    """Attention, then two layers, each beside a shortcut and scaled by learned factors."""

    def __init__(self, width: int, *, gated: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width)
        self.ls1 = Scale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Gated(width) if gated else TwoLayers(width)
        self.ls2 = Scale(width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        result: Tensor = tokens + self.ls2(self.mlp(self.norm2(tokens)))
        return result


class Attention(nn.Module):
    """Self-attention of tokens (B, T, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(tokens).reshape(*tokens.shape[:2], 3, -1, HEAD).permute(2, 0, 3, 1, 4)
        found: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return found


class TwoLayers(nn.Module):
    """The layers of all networks but the largest."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return found


class Gated(nn.Module):
    """The layers of the largest network (SwiGLU, Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = (8 * width // 3 + 7) // 8 * 8
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        gate, value = self.w12(tokens).chunk(2, dim=-1)
        found: Tensor = self.w3(F.silu(gate) * value)
        return found


class Scale(nn.Module):
    """A factor for each feature."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.gamma
