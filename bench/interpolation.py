"""Paths between noise vectors.

Between normal vectors the path is spherical (Shoemake 1985; White 2016, arXiv:1609.04468): a straight line
would pass near the origin, where a generator has seen no noise in training. Between uniform ones it is
straight, and stays in the cube that they are drawn from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from baselines.gan import Noise, Uniform

NEARLY_PARALLEL = 1e-3
"""Radians. Below this angle the spherical path is the straight one, up to rounding."""


def closed_path(
    noise: Mapping[str, Noise], points: Sequence[Mapping[str, Tensor]], frames: int
) -> Iterator[dict[str, Tensor]]:
    """Noise (n, *shape) along a closed path through these points, ``frames`` steps from each to the next."""
    for a, b in zip(points, [*points[1:], points[0]], strict=True):
        for k in range(frames):
            yield {
                name: (linear if isinstance(kind, Uniform) else spherical)(a[name], b[name], k / frames)
                for name, kind in noise.items()
            }


def linear(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The point at ``t`` in [0, 1] on the straight path from ``a`` to ``b`` (n, *shape)."""
    return (1 - t) * a + t * b


def spherical(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The point at ``t`` in [0, 1] on the spherical path from ``a`` to ``b`` (n, *shape), for each example.

    sin((1 - t) ω) / sin ω · a + sin(t ω) / sin ω · b, with the angle ω between them.
    """
    x, y = a.flatten(1), b.flatten(1)
    cosine = torch.nn.functional.cosine_similarity(x, y, dim=1).clamp(-1, 1)
    angle = cosine.arccos().unsqueeze(1)
    sine = angle.sin().clamp(min=1e-12)
    path = ((1 - t) * angle).sin() / sine * x + (t * angle).sin() / sine * y
    straight = linear(x, y, t)
    near = (angle < NEARLY_PARALLEL) | (angle > torch.pi - NEARLY_PARALLEL)  # opposite: any way is as long
    return torch.where(near, straight, path).reshape(a.shape)
