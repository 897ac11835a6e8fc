"""Scores of points in the plane, as PacGAN counts them (Lin et al. 2018, arXiv:1712.04086, and its code).

2,500 samples each go to the nearest centre of the data's mixture, by distance in units of σ. A sample that is
nearer than 3 is of *high quality*, and counts for that mode.

- ``modes``: how many modes have such a sample; the ring has 8, the grid 25;
- ``high_quality``: the fraction of the samples that are of high quality: 0.989 of real points, since a
  Gaussian in the plane has 1.1 % of its mass beyond 3 σ;
- ``reverse_kl``: KL of the modes of the high-quality samples from the uniform distribution, Σ p log(p K). It
  is 0 where all K modes are equally frequent, and log K where only one is left. Real points have about
  (K - 1) / 2N, for N samples. Without any sample of high quality it is log K, its largest value.

Reverse KL comes first: the verdict on a table, the best step and a search go by it. It tells models apart
that cover equally many modes.

There are no features, and no other extractor applies. Letters: N samples, K modes.
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.datasets import Dataset
from bench.data.points import MIXTURES, Mixture

NAME = "points"
"""Where the scores are in a record, in place of an extractor."""
N_SAMPLES = 2_500
WITHIN = 3.0
"""Units of σ."""


def protocol(n_real: int) -> dict[str, Any]:
    """The settings of the scores, for the record."""
    return {"n_fake": N_SAMPLES, "n_real": n_real, "within_sigmas": WITHIN}


def scores(points: Tensor, mixture: Mixture) -> dict[str, float]:
    """``reverse_kl``, ``modes``, ``high_quality`` of points (N, 2, 1, 1)."""
    counts = high_quality_counts(points.flatten(1).double().cpu().numpy(), mixture)
    n, found = len(mixture.centres), counts[counts > 0] / max(1, counts.sum())
    return {
        "reverse_kl": max(0.0, float((found * np.log(found * n)).sum())) if len(found) else log(n),
        "modes": float(len(found)),
        "high_quality": float(counts.sum() / len(points)),
    }


def high_quality_counts(points: NDArray[np.float64], mixture: Mixture) -> NDArray[np.int64]:
    """How many of the points (N, 2) are of high quality, by mode: (K,)."""
    offsets = (points[:, None] - np.array(mixture.centres)) / mixture.sigma  # (N, K, 2)
    distances = np.hypot(offsets[..., 0], offsets[..., 1])
    good = distances.min(axis=1) < WITHIN
    return np.bincount(distances.argmin(axis=1)[good], minlength=len(mixture.centres))


def of(dataset: Dataset, points: Tensor) -> dict[str, dict[str, float]]:
    """The scores of samples of a data set of points, as a record holds them."""
    return {NAME: scores(points, MIXTURES[dataset.name])}


def baseline(dataset: Dataset, draws: int) -> dict[str, dict[str, list[float]]]:
    """The scores of training points in place of samples, in several draws."""
    found = []
    for k in range(draws):
        chosen = np.random.Generator(np.random.PCG64(k)).permutation(len(dataset.train))[:N_SAMPLES]
        found.append(of(dataset, torch.from_numpy(dataset.train.images[chosen]))[NAME])
    return {NAME: {name: [one[name] for one in found] for name in found[0]}}
