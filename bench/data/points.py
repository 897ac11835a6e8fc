"""Points in the plane: mixtures of Gaussians, on which it can be seen whether a model drops modes.

``ring``: 8 Gaussians on the unit circle, σ = 0.01. ``grid``: 25 at {-4, -2, 0, 2, 4}², σ = 0.05. Both as in
PacGAN (Lin et al. 2018, arXiv:1712.04086): 100,000 fixed points to train on, each of a Gaussian that is drawn
at random, not scaled. The test split of 10,000 more is ours: accuracies of D are measured on it.

A point is kept as an "image" of two channels and one pixel, (N, 2, 1, 1) float32, so that all that trains on
images trains on points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

N_TRAIN, N_TEST = 100_000, 10_000
DECIMALS = 6
"""Coordinates are rounded, so that they are the same whatever library computes cosines and logarithms."""


@dataclass(frozen=True)
class Mixture:
    """Gaussians in the plane, all equally likely, round and equally wide."""

    centres: tuple[tuple[float, float], ...]
    sigma: float

    def sample(self, n: int, random: np.random.RandomState) -> NDArray[np.float32]:
        """n points (n, 2, 1, 1)."""
        centres = np.array(self.centres)[random.randint(len(self.centres), size=n)]
        points = np.round(centres + self.sigma * random.standard_normal((n, 2)), DECIMALS)
        return points.astype(np.float32).reshape(n, 2, 1, 1)


MIXTURES: Mapping[str, Mixture] = {
    "ring": Mixture(tuple((cos(k * pi / 4), sin(k * pi / 4)) for k in range(8)), 0.01),
    "grid": Mixture(tuple((x, y) for x, y in product((-4.0, -2.0, 0.0, 2.0, 4.0), repeat=2)), 0.05),
}
"""The data sets by name."""


def read_points(name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(train, test), the same in every process."""
    random = np.random.RandomState(0)  # NumPy promises that this stream never changes
    return MIXTURES[name].sample(N_TRAIN, random), MIXTURES[name].sample(N_TEST, random)
