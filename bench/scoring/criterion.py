"""Is the accuracy of the discriminator near one half? A precise form of the seed article's rule.

When the generator has won, its discriminator can only guess: it is right on half of the real images and on
half of the fakes. The mean of the two accuracies alone does not show this, because a discriminator that calls
everything real has a mean of one half, too. Nor do the means of each: a discriminator that calls everything
real in one iteration and everything fake in the next has a mean of one half on both sides. So the two are
compared in each iteration. With r and f the accuracies of one iteration on real and on fake images, and mean
the average over a window of iterations,

    in the band:   |mean((r + f) / 2) - 1/2| <= tolerance   and   mean(|r - f|) <= max_gap   (bounds included)

For n iterations let the window be w = ceil(n / 10), and let window t hold the iterations t - w + 1 … t, for
t = w … n:

- ``near_half``: window n, the last tenth of training, is in the band;
- ``near_half_since``: the smallest t such that the windows t, t + 1, …, n are in the band. It exists exactly
  when ``near_half`` holds, lies between w and n, and counts iterations from 1.

Chance alone makes r and f differ: a discriminator that guesses has mean(|r - f|) = 0.56 / sqrt(B) in batches
of B examples, 0.05 for B = 128 and 0.10 for B = 32. That is far from 0.30. Below B = 8 (0.20) the criterion
becomes hard to meet.

A critic has no threshold, so it has no accuracy in training. It is judged by the same rule on its
evaluations: a few held-out accuracies, one to three of them in the last tenth, with a threshold that is
chosen on other held-out images. That is a weaker statement, and tables keep it apart.

A window with a value that is not finite is never in the band.

Caveat: near one half is necessary for an equilibrium, but not sufficient for good samples. A discriminator
that is too weak, or that learns too slowly, is near one half even when the generator is poor. So read it
together with the scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

TOLERANCE = 0.15
"""Default half-width of the band around one half (``--d-acc-tolerance``)."""

MAX_GAP = 0.30
"""Largest mean difference between an iteration's accuracies on reals and on fakes."""

ROUNDING = 1e-9
"""Tolerance for the rounding of decimal bounds: 0.65 is within 0.15 of one half."""


def near_half(
    acc_real: ArrayLike, acc_fake: ArrayLike, tolerance: float = TOLERANCE, max_gap: float = MAX_GAP
) -> bool:
    """Whether the last tenth of these accuracies, (n,) each, is in the band.

    A single number counts as a history of one iteration, so held-out accuracies are judged by the same rule.
    """
    return bool(_in_band(_array(acc_real), _array(acc_fake), tolerance, max_gap)[-1:].any())


def judge(
    history: Mapping[str, Any], tolerance: float = TOLERANCE, max_gap: float = MAX_GAP
) -> dict[str, Any]:
    """Judge a run by ``d_acc_real`` and ``d_acc_fake`` of every iteration, (n,) each.

    Returns ``train`` (the mean ``real`` and ``fake`` accuracy over the last tenth, and ``balanced``, the mean
    of the two), ``near_half``, and ``near_half_since`` or None. Where the last tenth is not finite, or the
    history is empty, the three accuracies are None and the run is not near half.
    """
    real, fake = _array(history["d_acc_real"]), _array(history["d_acc_fake"])
    in_band = _in_band(real, fake, tolerance, max_gap)
    steady = int(np.logical_and.accumulate(in_band[::-1]).sum())  # windows in the band, counted from the end
    w = _window(len(real))
    train = _accuracy(_mean(real[-w:]), _mean(fake[-w:]))
    return {
        "train": train if np.isfinite(train["balanced"]) else dict.fromkeys(train),
        "near_half": steady > 0,
        "near_half_since": len(real) - steady + 1 if steady else None,
    }


def accuracy(scores_real: ArrayLike, scores_fake: ArrayLike, threshold: float) -> dict[str, float]:
    """Accuracy of a discriminator whose scores (N,), (M,) above ``threshold`` mean "real".

    Returns fractions in [0, 1]: ``real``, ``fake`` and their mean, ``balanced``. A score that equals the
    threshold means "fake". NaN is wrong on both sides.
    """
    real, fake = _scores(scores_real, "real"), _scores(scores_fake, "fake")
    return _accuracy(_mean(real > threshold), _mean(fake <= threshold))


def best_threshold(scores_real: ArrayLike, scores_fake: ArrayLike) -> float:
    """The threshold with the best balanced accuracy on these scores (N,), (M,).

    This is for critics, whose scores have no natural threshold. The candidates are the finite scores
    themselves: they divide the scores in every possible way but "all real", which is never better than "all
    fake". Among equals, the smallest difference between the accuracies on reals and on fakes wins, then the
    lowest score.

    Raises:
        ValueError: no score is finite.
    """
    real, fake = _scores(scores_real, "real"), _scores(scores_fake, "fake")
    candidates = np.unique(np.concatenate([real, fake]))
    candidates = candidates[np.isfinite(candidates)]
    if not len(candidates):
        raise ValueError("a threshold needs at least one finite score")
    # NaN is left out of the counts, but not out of the denominators.
    known_real, known_fake = np.sort(real[~np.isnan(real)]), np.sort(fake[~np.isnan(fake)])
    right_real = len(known_real) - np.searchsorted(known_real, candidates, side="right")
    right_fake = np.searchsorted(known_fake, candidates, side="right")
    # Counts over the common denominator N·M are whole numbers, so equal accuracies compare as equal.
    right_real, right_fake = right_real * len(fake), right_fake * len(real)
    best = np.lexsort((candidates, np.abs(right_real - right_fake), -right_real - right_fake))[0]
    return float(candidates[best])


def _array(values: ArrayLike) -> NDArray[np.float64]:
    return np.atleast_1d(np.asarray(values, dtype=np.float64))


def _scores(values: ArrayLike, side: str) -> NDArray[np.float64]:
    scores = _array(values)
    if not len(scores):
        raise ValueError(f"no scores of {side} images")
    return scores


def _window(n: int) -> int:
    """A tenth of n iterations, rounded up, at least one."""
    return max(1, -(-n // 10))


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _moving_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over each full window, (n,) -> (n - w + 1,); NaN where a value in it is not finite."""
    w, finite = _window(len(values)), np.isfinite(values)
    sums = np.cumsum(np.concatenate([[0.0], np.where(finite, values, 0.0)]))
    bad = np.cumsum(np.concatenate([[0], ~finite]))
    return np.where(bad[w:] > bad[:-w], np.nan, (sums[w:] - sums[:-w]) / w)


def _in_band(
    real: NDArray[np.float64], fake: NDArray[np.float64], tolerance: float, max_gap: float
) -> NDArray[np.bool_]:
    """Whether each full window is in the band, (n,) each -> (n - w + 1,). NaN compares false."""
    balanced, gap = _moving_mean((real + fake) / 2), _moving_mean(np.abs(real - fake))
    near: NDArray[np.bool_] = np.abs(balanced - 0.5) <= tolerance + ROUNDING
    return near & (gap <= max_gap + ROUNDING)


def _accuracy(real: float, fake: float) -> dict[str, float]:
    return {"real": real, "fake": fake, "balanced": (real + fake) / 2}
