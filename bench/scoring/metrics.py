"""Scores of generated images, from features alone.

FID, IS and KID are torch-fidelity's (:mod:`bench.scoring.fidelity`). Precision and recall (Kynkäänniemi et
al. 2019, arXiv:1904.06991) use torch-fidelity's arithmetic in blocks, which takes a fifth of the time and a
twentieth of the memory. Mode coverage is for data with classes.

Letters beside tensors: N images, D features, K classes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.scoring import fidelity, sizes
from bench.scoring.determinism import scoring
from bench.scoring.features import Features

BLOCK = 1000
"""Rows of a distance matrix that are computed at once."""


class ScoreError(Exception):
    """These features have no scores: there are too few, or some are not finite. The message says which."""


def score(real: Features, fake: Features, *, seed: int) -> dict[str, float]:
    """``fid``, ``isc_mean``, ``isc_std``, ``kid_mean``, ``kid_std``, ``precision``, ``recall``.

    Without logits there is no IS.

    ``seed`` chooses the subsets of KID and the splits of IS. What depends on ``real`` alone is computed once
    per process. The scores are finite wherever they are defined:

    - all samples are equal: FID is that of a point mass, IS is 1, and recall is 0 unless real images
      are equal to them;
    - there are fewer images than features, so that covariances are singular: rounding can make eigenvalues
      negative, and FID's trace of a square root takes these as zero;
    - there is one class only: IS is 1.

    The subsets of KID hold 1,000 images, or half of the smaller side. So they differ, and ``kid_std`` is a
    deviation between subsets. KID is unbiased, so it can be negative where the sides are alike.

    Precision and recall are defined for sides of equal size. Samples that outnumber the real images are
    scored in blocks of as many, and the blocks' values are averaged. That is faster, too.

    Raises:
        ScoreError: a side has fewer than 10 images (IS has ten splits, and points need neighbours); or a
            feature, a logit or, through overflow, a score is not finite.
    """
    for side, given in (("real", real), ("generated", fake)):
        _check(side, given)
    with scoring(), np.errstate(over="ignore", invalid="ignore"):
        fid = fidelity.fid(fidelity.moments(fake.features), _real_moments(real))
        isc = {} if fake.logits is None else _isc(fake.logits, seed)
        kid_mean, kid_std = fidelity.kid(
            fake.features,
            real.features,
            subsets=sizes.KID_SUBSETS,
            subset_size=sizes.kid_subset_size(min(len(fake), len(real))),
            seed=seed,
        )
        precision, recall = _precision_recall_in_blocks(fake.features, real.features, _real_radii(real))
    scores = {
        "fid": float(np.maximum(0, fid)),  # rounding can make a perfect match negative; NaN stays NaN
        **isc,
        "kid_mean": kid_mean,
        "kid_std": kid_std,
        "precision": precision,
        "recall": recall,
    }
    bad = [name for name, value in scores.items() if not np.isfinite(value)]
    if bad:
        raise ScoreError(f"the features are too large: {', '.join(bad)} overflowed")
    return scores


def _isc(logits: Tensor, seed: int) -> dict[str, float]:
    # Below e^-700 a probability adds nothing, but its logarithm would become infinite.
    logits = logits.double()
    logits = (logits - logits.max(dim=1, keepdim=True).values).clamp(min=-700)
    mean, std = fidelity.isc(logits, splits=sizes.ISC_SPLITS, seed=seed)
    return {"isc_mean": mean, "isc_std": std}


def mode_coverage(
    classes: Tensor, labels: NDArray[np.int64], n_classes: int, judge: str = ""
) -> dict[str, float]:
    """How many classes the samples cover, and how far their class histogram is from the real one.

    ``classes`` (N,) are those that a judge sees in the samples, ``labels`` (M,) those of the real images. The
    names of the scores end with ``judge``.

    - ``modes``: the number of classes that are covered. A class is covered when the judge sees it at
      least a tenth as often among the samples as it occurs among the real images. So a single stray
      sample, or an error of the judge, covers nothing.
    - ``mode_kl``: the Kullback-Leibler divergence of the generated class histogram from the real one,
      in nats: 0 where they are equal, ln K where a balanced set of K classes collapses to one. A class
      without real images counts as half an image, so that the divergence is finite.
    """
    fake = np.bincount(classes.cpu().numpy(), minlength=n_classes)
    real = np.bincount(labels, minlength=n_classes)
    p, q = fake / fake.sum(), np.maximum(real, 0.5) / np.maximum(real, 0.5).sum()
    covered = (real > 0) & (10 * fake * real.sum() >= real * fake.sum())
    some = p > 0
    kl = max(0.0, float(np.sum(p[some] * np.log(p[some] / q[some]))))  # rounding can make it negative
    return {f"modes{judge}": int(covered.sum()), f"mode_kl{judge}": kl}


def _check(side: str, given: Features) -> None:
    check_features(side, given.features)
    if given.logits is not None:
        _refuse_infinite(side, "logits", given.logits)


def check_features(side: str, features: Tensor) -> None:
    """Refuse features (N, D) of one side, named for the message, that cannot be scored.

    Raises:
        ScoreError: there are fewer than 10, or some are not finite.
    """
    if len(features) < sizes.ISC_SPLITS:
        raise ScoreError(
            f"{len(features)} {side} images cannot be scored: at least {sizes.ISC_SPLITS} are needed"
        )
    _refuse_infinite(side, "features", features)


def _refuse_infinite(side: str, what: str, values: Tensor) -> None:
    n_bad = int((~values.isfinite()).any(dim=1).sum())
    if n_bad:
        raise ScoreError(f"the {what} of {n_bad} of {len(values)} {side} images are not finite")


@lru_cache(maxsize=4)
def _real_moments(real: Features) -> Any:
    return fidelity.moments(real.features)


@lru_cache(maxsize=4)
def _real_radii(real: Features) -> Tensor:
    return _radii(real.features)


def _radii(features: Tensor) -> Tensor:
    """The distance of each point to its k-th nearest neighbour, (N, D) -> (N,)."""
    # k + 1, as the nearest point is the point itself.
    return torch.cat(
        [
            torch.cdist(block, features).topk(sizes.PRC_K + 1, largest=False).values[:, -1]
            for block in torch.split(features, BLOCK)
        ]
    )


def _precision_recall_in_blocks(fake: Tensor, real: Tensor, real_radii: Tensor) -> tuple[float, float]:
    """The means over blocks of the fakes (N, D) that are as large as the real side (M, D)."""
    n_blocks = max(1, len(fake) // len(real))
    blocks = torch.split(fake[: n_blocks * len(real)], len(real))
    found = [_precision_recall(block, real, real_radii) for block in blocks]
    precision, recall = np.mean(found, axis=0).tolist()
    return precision, recall


def _precision_recall(fake: Tensor, real: Tensor, real_radii: Tensor) -> tuple[float, float]:
    """The fraction of fakes (N, D) in some real image's ball, and of real images (M, D) in some fake's ball.

    The ball of a point reaches to its k-th nearest neighbour on its own side.
    """
    precise = []
    recalled = torch.zeros(len(real), dtype=torch.bool)
    for block, radii in zip(torch.split(fake, BLOCK), torch.split(_radii(fake), BLOCK), strict=True):
        distances = torch.cdist(block, real)  # (block, M)
        precise.append((distances <= real_radii).any(dim=1))
        recalled |= (distances <= radii[:, None]).any(dim=0)
    return torch.cat(precise).float().mean().item(), recalled.float().mean().item()
