"""FID without the bias of a finite number of samples, and KID against that number.

The expected FID of N samples is the FID of infinitely many plus a term in 1/N that depends on the generator
(Chong & Forsyth 2020, arXiv:1911.07023). So FIDs of different N must not be compared. FID∞ is where a
straight line through FIDs at several N, against 1/N, meets 1/N = 0. The real side stays as large as it is,
and its own part of the bias stays, too. KID has no such bias, so it should not move with N.

Letters beside tensors: N images, D features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from bench.scoring import fidelity
from bench.scoring.determinism import scoring
from bench.scoring.metrics import ScoreError
from bench.scoring.sizes import KID_SUBSET_SIZE, KID_SUBSETS

POINTS = 15
"""Numbers of samples at which FID is computed, equally far apart, as in the paper."""
SMALLEST = 10
"""The least of them is a tenth of all samples, but at least twice as many as features."""
KID_EVERY = 7
"""KID, which is slower, is computed at the first, the middle and the last of them."""


def fewest(dim: int) -> int:
    """How many samples FID∞ needs with so many features: four times as many."""
    return 4 * dim


def extrapolate(real: Tensor, fake: Tensor, seed: int) -> dict[str, Any]:
    """FID and KID of random subsets of samples (N, D) against real images (M, D), and FID∞.

    Returns ``fid_infinity``; ``r2`` of the straight line, which is near 1 where the extrapolation can be
    trusted; ``n`` and ``fid``, the points; ``kid_n`` and ``kid``.

    Raises:
        ScoreError: there are fewer samples than four times the number of features: below twice that number
            covariances are nearly singular, and the FID is no line in 1/N.
    """
    total, dim = fake.shape
    if total < fewest(dim):
        raise ScoreError(
            f"FID∞ of {dim:,} features needs {fewest(dim):,} samples or more, and there are {total:,}"
        )
    sizes = np.linspace(max(total // SMALLEST, 2 * dim), total, POINTS).astype(int).tolist()
    random = np.random.RandomState(seed)  # a stream that NumPy never changes
    with scoring():
        moments = fidelity.moments(real)
        fids, kids = [], []
        for k, n in enumerate(sizes):
            subset = fake[random.permutation(total)[:n]]
            fids.append(fidelity.fid(fidelity.moments(subset), moments))
            if k % KID_EVERY == 0:
                size = min(KID_SUBSET_SIZE, min(n, len(real)) // 2)
                kids.append(fidelity.kid(subset, real, subsets=KID_SUBSETS, subset_size=size, seed=seed)[0])
    inverse = 1 / np.array(sizes)
    slope, intercept = np.polyfit(inverse, fids, 1)
    left = np.sum((np.array(fids) - intercept - slope * inverse) ** 2)
    spread = np.sum((np.array(fids) - np.mean(fids)) ** 2)
    return {
        "fid_infinity": float(intercept),
        "r2": float(1 - left / spread) if spread > 0 else 1.0,
        "n": sizes,
        "fid": fids,
        "kid_n": sizes[::KID_EVERY],
        "kid": kids,
    }
