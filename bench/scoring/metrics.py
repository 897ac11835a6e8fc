"""Scores of generated images, from features alone.

FID (Heusel et al. 2017, arXiv:1706.08500), IS (Salimans et al. 2016, arXiv:1606.03498), KID (Bińkowski
et al. 2018, arXiv:1801.01401) by torch-fidelity's own functions; precision and recall (Kynkäänniemi et
al. 2019, arXiv:1904.06991) by the same arithmetic in blocks, which takes a fifth of the time and a
twentieth of the memory; mode coverage for data with classes.

Letters beside tensors: N images, D features, K classes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.scoring.arithmetic import scoring
from bench.scoring.extractors import Features

KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000
"""Or N, where that is less."""
ISC_SPLITS = 10
PRC_K = 3
BLOCK = 1000
"""Rows of a distance matrix that are in memory at once."""


class ScoreError(Exception):
    """These features have no scores: too few images, or not finite. The message says which."""


def protocol(n: int) -> dict[str, int]:
    """The settings behind the scores of n images against n, for the record."""
    return {
        "kid_subset_size": min(KID_SUBSET_SIZE, n),
        "kid_subsets": KID_SUBSETS,
        "isc_splits": ISC_SPLITS,
        "prc_k": PRC_K,
    }


def score(real: Features, fake: Features, *, seed: int) -> dict[str, float]:
    """``fid``, ``isc_mean``, ``isc_std``, ``kid_mean``, ``kid_std``, ``precision``, ``recall``.

    ``seed`` chooses KID's subsets and IS's splits. What depends on ``real`` alone is computed once
    and kept while the process lives. The scores are finite wherever they are defined at all:

    - all samples alike: FID is that of a point mass, IS is 1, recall is 0 unless real images
      coincide with them;
    - fewer images than features, singular covariances: FID's trace of a square root takes what
      rounding turns negative as zero;
    - one class only: IS is 1;
    - up to 1,000 images: each of KID's subsets is all of them, so that its deviation says nothing.

    ScoreError where there are fewer than 10 images on a side (IS and the neighbours need them), or a
    feature, a logit or, through overflow, a score is not finite.
    """
    for side, given in (("real", real), ("generated", fake)):
        _check(side, given)
    # Late, as it takes a second and a plan needs the protocol alone.
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    with scoring(), np.errstate(over="ignore", invalid="ignore"):
        moments = fid_features_to_statistics(fake.features)
        fid = fid_statistics_to_metric(moments, _real_moments(real), verbose=False)
        # Beyond e^-700 a probability's share is nothing, and its logarithm would become infinite.
        logits = fake.logits.double()
        logits = (logits - logits.max(dim=1, keepdim=True).values).clamp(min=-700)
        isc = isc_features_to_metric(logits, splits=ISC_SPLITS, shuffle=True, rng_seed=seed)
        kid = kid_features_to_metric(
            fake.features,
            real.features,
            kid_subsets=KID_SUBSETS,
            kid_subset_size=min(KID_SUBSET_SIZE, len(fake), len(real)),
            rng_seed=seed,
            verbose=False,
        )
        precision, recall = _precision_recall(fake.features, real.features, _real_radii(real))
    scores = {
        # Rounding makes a perfect match negative; NaN stays what it is.
        "fid": float(np.maximum(0, fid["frechet_inception_distance"])),
        "isc_mean": isc["inception_score_mean"],
        "isc_std": isc["inception_score_std"],
        "kid_mean": kid["kernel_inception_distance_mean"],
        "kid_std": kid["kernel_inception_distance_std"],
        "precision": precision,
        "recall": recall,
    }
    bad = [name for name, value in scores.items() if not np.isfinite(value)]
    if bad:
        raise ScoreError(f"the features are too large: {', '.join(bad)} overflowed")
    return scores


def mode_coverage(logits: Tensor, labels: NDArray[np.int64]) -> dict[str, float]:
    """How many classes the samples cover, and how far their class histogram is from the real one.

    ``logits`` (N, K) are a classifier's of the samples, ``labels`` (M,) those of the real images.

    - ``modes``: classes to which the classifier assigns a share of the samples of at least a tenth of
      the class's share in the real data. A single stray sample, or a classifier's error, covers nothing.
    - ``mode_kl``: the Kullback-Leibler divergence of the generated class histogram from the real one,
      in nats: 0 where they agree, ln K where a balanced set of K classes collapses to one. A class that
      the real images lack counts as half an image, so that the divergence is finite.
    """
    n_classes = logits.shape[1]
    fake = np.bincount(logits.argmax(dim=1).cpu().numpy(), minlength=n_classes)
    real = np.bincount(labels, minlength=n_classes)
    p, q = fake / fake.sum(), np.maximum(real, 0.5) / np.maximum(real, 0.5).sum()
    covered = (real > 0) & (10 * fake * real.sum() >= real * fake.sum())
    some = p > 0
    kl = max(0.0, float(np.sum(p[some] * np.log(p[some] / q[some]))))  # rounding can make it negative
    return {"modes": int(covered.sum()), "mode_kl": kl}


def _check(side: str, given: Features) -> None:
    if len(given) < ISC_SPLITS:
        raise ScoreError(f"{len(given)} {side} images cannot be scored: at least {ISC_SPLITS} are needed")
    for what, values in (("features", given.features), ("logits", given.logits)):
        n_bad = int((~values.isfinite()).any(dim=1).sum())
        if n_bad:
            raise ScoreError(f"the {what} of {n_bad} of {len(given)} {side} images are not finite")


@lru_cache(maxsize=4)
def _real_moments(real: Features) -> dict[str, Any]:
    """Mean and covariance, for FID."""
    from torch_fidelity.metric_fid import fid_features_to_statistics

    moments: dict[str, Any] = fid_features_to_statistics(real.features)
    return moments


@lru_cache(maxsize=4)
def _real_radii(real: Features) -> Tensor:
    return _radii(real.features)


def _radii(features: Tensor) -> Tensor:
    """Each point's distance to its k-th nearest other, (N, D) -> (N,)."""
    # The nearest is the point itself: k + 1.
    return torch.cat(
        [
            torch.cdist(block, features).topk(PRC_K + 1, largest=False).values[:, -1]
            for block in torch.split(features, BLOCK)
        ]
    )


def _precision_recall(fake: Tensor, real: Tensor, real_radii: Tensor) -> tuple[float, float]:
    """The share of fakes within a real image's ball, and of real images within a fake's ball.

    A point's ball reaches its k-th nearest neighbour on its own side. (N, D), (M, D), (M,).
    """
    precise = []
    recalled = torch.zeros(len(real), dtype=torch.bool)
    for block, radii in zip(torch.split(fake, BLOCK), torch.split(_radii(fake), BLOCK), strict=True):
        distances = torch.cdist(block, real)  # (block, M)
        precise.append((distances <= real_radii).any(dim=1))
        recalled |= (distances <= radii[:, None]).any(dim=0)
    return torch.cat(precise).float().mean().item(), recalled.float().mean().item()
