"""Statistics over training seeds.

The unit is the training seed: every function takes one number per seed. A NaN raises ValueError; it is not
skipped. Where two models are compared, a failed run is an infinity of the worse sign: worse than any score.
Everything random takes a ``seed``.

Letters: n seeds of a model, k comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.scoring.scores import Better

FEWEST_FOR_INTERVAL = 5
EXACT_UP_TO = 200_000
"""Largest number of regroupings that a permutation test enumerates: 10 against 10 has 184,756."""
DRAWN = 19_999
"""Random regroupings beyond that."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval; both ends NaN where the data cannot give one."""

    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan)


def _sample(values: ArrayLike) -> NDArray[np.float64]:
    """``values`` as a vector (n,). Raises ValueError where it is empty or not finite throughout."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError("expected one finite number per seed, and at least one")
    return x


def _outcomes(values: ArrayLike) -> NDArray[np.float64]:
    """Like :func:`_sample`, but infinities are allowed."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or np.isnan(x).any():
        raise ValueError("expected one number per seed, and at least one")
    return x


# ---------------------------------------------------------------- one model


def std(values: ArrayLike) -> float:
    """Standard deviation with n - 1; NaN for a single seed."""
    x = _sample(values)
    return float(x.std(ddof=1)) if x.size > 1 else math.nan


def iqm(values: ArrayLike) -> float:
    """Interquartile mean: the mean after cutting int(n/4) values at either end (Agarwal et al. 2021).

    Up to three seeds nothing is cut and it is the mean.
    """
    x = np.sort(_sample(values))
    cut = x.size // 4
    return float(x[cut : x.size - cut].mean())


def mean_ci(values: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Confidence interval of the mean: :func:`mean_cis` for a single row."""
    return mean_cis(_sample(values)[None], confidence=confidence)[0]


def mean_cis(rows: ArrayLike, *, confidence: float = 0.95) -> list[Interval]:
    """Student's t intervals of the mean of each row of ``rows`` (m, n).

    At 95 % this covers the mean of normal scores in 95 of 100 studies, whatever n. Where scores are not
    normal it covers less: of exponential ones 88 (n = 5) and 91 (n = 10); where one seed in five
    collapses, far from the others, 70 and 89, since a third of all studies of five see no such seed. No
    interval knows what it has not seen: a BCa bootstrap interval (93, 88, 70 at n = 5) does no better.

    Fewer than five seeds: no interval (NaN). Equal values: the interval is that value.
    """
    from scipy.special import stdtrit

    x = np.asarray(rows, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] == 0 or not np.isfinite(x).all():
        raise ValueError("expected rows of finite numbers, one per seed")
    n = x.shape[1]
    if n < FEWEST_FOR_INTERVAL:
        return [UNKNOWN] * len(x)
    largest = np.abs(x).max(axis=1)
    size = np.frexp(largest)[1]  # squares of what is divided by this power of 2 neither overflow nor vanish
    std = np.ldexp(np.ldexp(x, -size[:, None]).std(axis=1, ddof=1), size)
    varied = np.ptp(x, axis=1) > 1e-12 * largest
    middle = np.where(varied, x.mean(axis=1), x[:, 0])
    half = np.where(varied, float(stdtrit(n - 1, (1 + confidence) / 2)) * std / math.sqrt(n), 0.0)
    return [Interval(float(m - h), float(m + h)) for m, h in zip(middle, half, strict=True)]


def widest_std(n: int) -> float:
    """How many times the standard deviation of n seeds the true one may be: 31.9 of two seeds, 6.3 of three.

    The upper end of the 95 % interval of a normal distribution's standard deviation (chi-squared).
    """
    from scipy.special import chdtri

    return math.sqrt((n - 1) / float(chdtri(n - 1, 0.975)))


@dataclass(frozen=True)
class Variance:
    """Where a score's spread comes from, as standard deviations in the score's unit."""

    training: float
    """Between training seeds, without the sampling part; 0 where sampling explains all of it."""
    sampling: float
    """Between sample draws of one checkpoint."""


def variance_components(draws: Sequence[ArrayLike]) -> Variance:
    """Split the spread of ``draws`` (one row of sample draws per training seed) into its two sources.

    One-way random effects, by the analysis of variance: within a row the draws differ by sampling
    only; the row means differ by training and by sampling / (draws per row). Rows may differ in
    length (their harmonic mean is used). Fewer than two seeds or no row with two draws: NaN.
    """
    rows = [_sample(row) for row in draws]
    freedom = sum(row.size - 1 for row in rows)
    if not freedom:
        return Variance(math.nan, math.nan)
    within = sum(float(((row - row.mean()) ** 2).sum()) for row in rows) / freedom
    if len(rows) < 2:
        return Variance(math.nan, math.sqrt(within))
    between = float(np.var([row.mean() for row in rows], ddof=1))
    per_row = float(np.mean([1 / row.size for row in rows]))
    return Variance(math.sqrt(max(0.0, between - within * per_row)), math.sqrt(within))


# ---------------------------------------------------------------- two models


def permutation_p(a: ArrayLike, b: ArrayLike, *, seed: int = 0) -> float:
    """Two-sided p-value that a run of one model is as often better as worse than one of the other (unpaired).

    A permutation test with Brunner and Munzel's (2000) studentised rank statistic (Neubert & Brunner 2007,
    Computational Statistics & Data Analysis 51:5192). It tests what :func:`improvement` estimates, and takes
    infinities, failed runs, as they are. Where the distributions are equal it is exact. Under unequal
    spreads of 5 against 5 it errs in 5 (spreads 1:3) to 6 % (1:10) where 5 % are allowed, a test of the means
    in 7 to 10; of 6 against 4 in up to 12 % if the six vary less. Welch's statistic would not help: with
    equal numbers of seeds its permutation test is that of the means.

    Over all regroupings of the seeds as long as there are at most 200,000 (10 against 10), over 19,999
    random ones beyond. It cannot go below 2 / C(n_a + n_b, n_a): 0.0079 for 5 against 5. A single seed on
    either side gives NaN: nothing was repeated.

    The same as ``scipy.stats.permutation_test`` of ``scipy.stats.brunnermunzel``, which takes seconds.
    """
    from scipy.stats import rankdata

    x, y = _outcomes(a), _outcomes(b)
    if min(x.size, y.size) < 2:
        return math.nan
    ranks = rankdata(np.concatenate([x, y]))
    if np.ptp(ranks) == 0:
        return 1.0
    order = np.argsort(ranks)
    null = _null(tuple(ranks[order]), x.size, seed)
    observed = float(_studentised(ranks[order], (order < x.size)[None].astype(np.float32))[0])
    tolerance = 1e-9 * min(abs(observed), 1e9)
    drawn = 0 if null.size == math.comb(ranks.size, x.size) else 1  # a drawn set lacks the observed one
    at_most = int(np.searchsorted(null, observed + tolerance, side="right")) + drawn
    at_least = null.size - int(np.searchsorted(null, observed - tolerance, side="left")) + drawn
    return min(1.0, 2 * min(at_most, at_least) / (null.size + drawn))


@lru_cache(maxsize=64)
def _null(ranks: tuple[float, ...], n_a: int, seed: int) -> NDArray[np.float64]:
    """The statistic of all regroupings (or of random ones), sorted; without ties the same for all models."""
    return np.sort(_studentised(np.asarray(ranks), _groupings(n_a, len(ranks) - n_a, seed)))


def _studentised(ranks: NDArray[np.float64], groups: NDArray[np.float32]) -> NDArray[np.float64]:
    """Brunner and Munzel's statistic (m,) of each grouping (m, n): 1 where a value is in the first group.

    Complete separation has no variance: an infinity, here 1e18. Single precision counts exactly.
    """
    n_a = int(groups[0].sum())
    n_b = ranks.size - n_a
    below = ((ranks[:, None] > ranks) + 0.5 * (ranks[:, None] == ranks)).astype(np.float32)
    own = groups @ below.T  # (m, n): how many of the first group are below each value; ties count half
    other = below.sum(axis=1) - own
    first, second = groups * other, (1 - groups) * own
    wins, losses = first.sum(axis=1, dtype=float), second.sum(axis=1, dtype=float)
    squares = (np.einsum("mn,mn->m", x, x).astype(float) for x in (first, second))
    spread_a = (next(squares) - wins**2 / n_a) / (n_a - 1)
    spread_b = (next(squares) - losses**2 / n_b) / (n_b - 1)
    shift = wins / (n_a * n_b) - 0.5
    error = np.sqrt(np.maximum(spread_a / (n_a * n_b**2) + spread_b / (n_b * n_a**2), 0.0))
    known = error > 1e-9
    far = np.where(np.abs(shift) > 1e-9, np.sign(shift) * 1e18, 0.0)
    return np.where(known, shift / np.where(known, error, 1.0), far)


@lru_cache(maxsize=4)
def _groupings(n_a: int, n_b: int, seed: int) -> NDArray[np.float32]:
    """Regroupings (m, n_a + n_b), all or random ones: 1 where a value is in the first group, or 0."""
    n = n_a + n_b
    if math.comb(n, n_a) <= EXACT_UP_TO:
        first = np.array(list(combinations(range(n), n_a)))
    else:
        rng = np.random.default_rng(seed)
        first = rng.permuted(np.tile(np.arange(n), (DRAWN, 1)), axis=1)[:, :n_a]
    groups = np.zeros((len(first), n), np.float32)
    np.put_along_axis(groups, first, 1.0, axis=1)
    return groups


def smallest_p(n_a: int, n_b: int) -> float:
    """The smallest p that :func:`permutation_p` can give with so many seeds."""
    return 2 / math.comb(n_a + n_b, n_a)


def holm(p_values: ArrayLike, family: int | None = None) -> NDArray[np.float64]:
    """Holm's (1979) adjusted p-values (k,) of a family of comparisons; a NaN stays and does not count.

    ``family``: the number of all comparisons, where the given ones were picked after looking at the data (for
    example those with the best model). The others count as if their p were 1, which never rejects more.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    adjusted = np.full(p.shape, np.nan)
    steps = max(family or 0, order.size) - np.arange(order.size)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * steps), 1.0)
    return adjusted


def improvement(a: ArrayLike, b: ArrayLike, *, better: Better) -> float:
    """Probability that a run of ``a`` is better than one of ``b``; ties count half (Agarwal 2021)."""
    x, y = _outcomes(a)[:, None], _outcomes(b)[None, :]
    return float(np.mean((x < y if better == "lower" else x > y) + 0.5 * (x == y)))


def improvement_ci(a: ArrayLike, b: ArrayLike, *, better: Better, confidence: float = 0.95) -> Interval:
    """Score interval of :func:`improvement` (Newcombe 2006, Statistics in Medicine 25:559, method 5).

    The bounds are the values of theta from which the observed value is z standard errors away, with Hanley
    & McNeil's (1982) variance at theta. Unlike a bootstrap it does not collapse to a point when
    every run of one model beats every run of the other. A single seed on either side: NaN.
    """
    x, y = _outcomes(a), _outcomes(b)
    if min(x.size, y.size) < 2:
        return UNKNOWN
    return _newcombe(improvement(x, y, better=better), x.size, y.size, confidence)


@lru_cache(maxsize=1024)
def _newcombe(observed: float, n_a: int, n_b: int, confidence: float) -> Interval:
    from scipy.optimize import brentq
    from scipy.special import ndtri

    z = float(ndtri((1 + confidence) / 2))
    others = (n_a + n_b) / 2 - 1

    def excess(theta: float) -> float:
        spread = (1 - theta) / (2 - theta) + theta / (1 + theta)
        variance = theta * (1 - theta) * (1 + others * spread) / (n_a * n_b)
        return (observed - theta) ** 2 - z**2 * variance

    low = 0.0 if observed == 0 else float(brentq(excess, 0.0, observed - 1e-9))
    high = 1.0 if observed == 1 else float(brentq(excess, observed + 1e-9, 1.0))
    return Interval(low, high)


@lru_cache(maxsize=1024)
def fewest_seeds(k: int = 1, level: float = 0.05) -> int:
    """Seeds per model below which no result can be significant at ``level`` / ``k``, whatever the scores."""
    return next(n for n in range(2, 200) if smallest_p(n, n) <= level / k)


def seeds_needed(
    a: ArrayLike,
    b: ArrayLike,
    *,
    power: float = 0.8,
    level: float = 0.05,
    k: int = 1,
    confidence: float = 0.8,
) -> Interval:
    """How many seeds per model would tell two models apart: from so many, to so many.

    A handful of seeds hardly says how far apart two models are: where 64 are needed, the observed effect of 5
    against 5 alone asks for anything between 10 and 1,560 (80 of 100 studies). So these are the needs at
    both ends of an 80 % interval of the effect (Cohen's d with Hedges's 1981 standard error). They hold the
    true need in 78 to 99 of 100 studies of 2 to 8 normal scores. The lower end is never below what the test
    needs to reach the level at all; the upper end is infinite where the models may be equal. Of pilots that
    came out significant they hold it in few (6 of 100 where 64 are needed): reports advise nothing then.

    The need is that of a two-sided t-test at ``level`` / ``k``, in closed form (Guenther 1981). A single
    seed, or a failed run: NaN.
    """
    from scipy.special import ndtri

    x, y = _outcomes(a), _outcomes(b)
    if min(x.size, y.size) < 2 or not np.isfinite([x.sum(), y.sum()]).all():
        return UNKNOWN
    fewest = fewest_seeds(k, level)
    difference = abs(float(x.mean() - y.mean()))
    freedom = x.size + y.size - 2
    spread = math.sqrt(((x.size - 1) * x.var(ddof=1) + (y.size - 1) * y.var(ddof=1)) / freedom)
    if difference <= 1e-12 * max(abs(float(x.mean())), abs(float(y.mean()))):
        return Interval(fewest, math.inf)
    if difference > 1e6 * spread:
        return Interval(fewest, fewest)
    effect = difference / spread
    error = float(ndtri((1 + confidence) / 2)) * math.sqrt(
        1 / x.size + 1 / y.size + effect**2 / (2 * freedom)
    )
    ends = (effect + error, effect - error)
    return Interval(*(max(fewest, _t_test_size(end, power, level / k)) for end in ends))


def _t_test_size(effect: float, power: float, level: float) -> float:
    """n per group whose two-sided t-test reaches ``power`` at this effect (Cohen's d), to about one seed."""
    from scipy.special import ndtri

    if effect <= 1e-6:
        return math.inf
    z = -float(ndtri(level / 2))
    return math.ceil(2 * ((z + float(ndtri(power))) / effect) ** 2 + z**2 / 4)


# ---------------------------------------------------------------- many models


def profile(values: ArrayLike, thresholds: ArrayLike, *, better: Better) -> NDArray[np.float64]:
    """Fraction of runs at least as good as each threshold (Dolan & More 2002; Agarwal et al. 2021).

    A NaN is a run without a score: it counts, and is never good enough.
    """
    x = np.asarray(values, dtype=np.float64)[:, None]
    t = np.asarray(thresholds, dtype=np.float64)[None, :]
    return np.asarray((x <= t if better == "lower" else x >= t).mean(axis=0))
