"""Statistics against cases solved by hand, against scipy, and against simulated studies."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from reports import stats

Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]

FEW = [3.0, 1.0, 4.0, 1.0, 5.0]

numbers = st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False)
samples = st.lists(numbers, min_size=1, max_size=12)
few = st.lists(st.integers(-5, 5), min_size=2, max_size=4)


# ---------------------------------------------------------------- one model


def test_std_has_n_minus_one() -> None:
    assert stats.std([1.0, 3.0]) == pytest.approx(math.sqrt(2))
    assert math.isnan(stats.std([7.0]))


def test_iqm_by_hand() -> None:
    assert stats.iqm([100.0, 1.0, 2.0, 3.0, -50.0]) == 2.0  # one cut at either end
    assert stats.iqm([0.0, 0.0, 9.0]) == 3.0  # nothing is cut


@given(samples)
def test_iqm_is_scipys_trimmed_mean(values: list[float]) -> None:
    assert stats.iqm(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25), abs=1e-6)


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [1.0, math.inf], [[1.0], [2.0]]])
def test_what_is_no_sample_is_refused(bad: list[float]) -> None:
    for function in (stats.std, stats.iqm, stats.mean_ci):
        with pytest.raises(ValueError, match="number"):
            function(bad)
    if math.inf not in bad:
        with pytest.raises(ValueError, match="number"):
            stats.permutation_p(bad, FEW)


def test_interval_of_too_few_or_equal_seeds() -> None:
    assert math.isnan(stats.mean_ci([1.0, 2.0, 3.0, 4.0]).low)
    assert stats.mean_ci([0.1 + 0.2, 0.3, 0.3, 0.3, 0.3]) == stats.Interval(0.1 + 0.2, 0.1 + 0.2)


def test_a_failed_run_is_worse_than_any_score() -> None:
    """(1, 2, 15, 15, 15) against (10, …, 14): infinities tie, and p is that of any number above all."""
    some_failed, none = [1.0, 2.0, math.inf, math.inf, math.inf], [10.0, 11.0, 12.0, 13.0, 14.0]
    assert stats.permutation_p(some_failed, none) == stats.permutation_p([1, 2, 15, 15, 15], none) > 0.05
    assert stats.improvement(some_failed, none, better="lower") == pytest.approx(10 / 25)
    assert stats.improvement([math.inf] * 2, [math.inf] * 2, better="lower") == 0.5
    assert stats.improvement([-math.inf], [0.0], better="higher") == 0.0
    assert math.isnan(stats.seeds_needed(some_failed, none).low)


def test_the_best_is_told_from_equals_no_more_often_than_promised() -> None:
    """Four equal models of eight seeds: the best is picked by looking, so the family is all six pairs."""
    rng = np.random.default_rng(3)
    found = {None: 0, 6: 0}
    for _ in range(400):
        runs = rng.normal(size=(4, 8))
        best, *rest = runs[runs.mean(axis=1).argsort()]
        p = [stats.permutation_p(other, best) for other in rest]
        for family in found:
            found[family] += bool((stats.holm(p, family) <= 0.05).any())
    assert found[6] / 400 <= 0.05
    assert found[None] > found[6]


def test_interval_is_students() -> None:
    mean, half = np.mean(FEW), scipy.stats.sem(FEW) * scipy.stats.t.ppf(0.975, 4)
    interval = stats.mean_ci(FEW)
    assert (interval.low, interval.high) == pytest.approx((mean - half, mean + half))
    assert stats.mean_ci(FEW, confidence=0.99).low < interval.low < stats.mean_ci(FEW, confidence=0.8).low


def test_how_much_wider_the_true_spread_may_be() -> None:
    """By the chi-squared distribution: with s of two seeds, 95 % for a true one below 31.9 s."""
    rng = np.random.default_rng(7)
    for n, factor in ((2, 31.9), (3, 6.3), (4, 3.7)):
        assert stats.widest_std(n) == pytest.approx(factor, abs=0.05)
        missed = rng.normal(size=(20_000, n)).std(axis=1, ddof=1) * stats.widest_std(n) < 1
        assert missed.mean() == pytest.approx(0.025, abs=0.005)


def test_intervals_of_rows_are_those_of_each_row() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 6))
    rows[1] = 2.0
    together = stats.mean_cis(rows)
    for row, interval in zip(rows, together, strict=True):
        alone = stats.mean_ci(row)
        assert interval.low == pytest.approx(alone.low)
        assert interval.high == pytest.approx(alone.high)


def collapsing(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float64]:
    """One seed in five collapses, far from the others; the mean is 2."""
    return np.asarray(rng.normal(size=size) + 10 * (rng.random(size) < 0.2))


@pytest.mark.parametrize(
    ("draw", "mean", "of_five", "of_ten"),
    [
        (lambda rng, size: rng.normal(size=size), 0.0, 0.95, 0.95),
        (lambda rng, size: rng.exponential(size=size), 1.0, 0.88, 0.91),
        (collapsing, 2.0, 0.70, 0.89),
    ],
    ids=["normal", "exponential", "collapsing"],
)
def test_coverage_is_what_is_said(draw: Draw, mean: float, of_five: float, of_ten: float) -> None:
    """The interval holds the true mean as often as the documentation says, well or badly."""
    rng = np.random.default_rng(1)
    for n, said in ((5, of_five), (10, of_ten)):
        holds = [interval.low <= mean <= interval.high for interval in stats.mean_cis(draw(rng, (4000, n)))]
        assert np.mean(holds) == pytest.approx(said, abs=0.015)


# ---------------------------------------------------------------- sampling beside training


def test_variance_components_by_hand() -> None:
    # Within rows: variance 2, 2. Row means 1, 5: variance 8 = training² + 2/2.
    split = stats.variance_components([[0.0, 2.0], [4.0, 6.0]])
    assert split.sampling == pytest.approx(math.sqrt(2))
    assert split.training == pytest.approx(math.sqrt(7))


def test_variance_components_degenerate() -> None:
    assert stats.variance_components([[0.0, 2.0], [0.0, 2.0]]).training == 0.0  # all of it is sampling
    assert math.isnan(stats.variance_components([[1.0], [2.0]]).sampling)
    lone = stats.variance_components([[0.0, 2.0]])
    assert math.isnan(lone.training)
    assert lone.sampling == pytest.approx(math.sqrt(2))


def test_variance_components_find_what_was_put_in() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(0, 3.0, size=(400, 1)) + rng.normal(0, 1.0, size=(400, 4))
    split = stats.variance_components(list(draws))
    assert split.training == pytest.approx(3.0, rel=0.1)
    assert split.sampling == pytest.approx(1.0, rel=0.1)


# ---------------------------------------------------------------- two models


def test_five_against_five_fully_separated() -> None:
    assert stats.permutation_p([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == 2 / 252
    assert stats.smallest_p(5, 5) == 2 / 252


def test_permutation_by_hand() -> None:
    # Sums of two of {1, 2, 3, 4}: 3 4 5 5 6 7. Observed 1 + 3 = 4: two of six are at most 4.
    assert stats.permutation_p([1, 3], [2, 4]) == pytest.approx(2 * 2 / 6)


@pytest.mark.filterwarnings("ignore:.*divide:RuntimeWarning")
@settings(deadline=None, max_examples=10)
@given(few, few)
def test_permutation_agrees_with_scipy(a: list[int], b: list[int]) -> None:
    """SciPy's permutation test of SciPy's statistic, ties included; of separated samples it has none."""

    def statistic(x: ArrayLike, y: ArrayLike) -> float:
        wins = stats.improvement(x, y, better="lower")
        if wins in (0.0, 1.0):
            return math.copysign(1e9, wins - 0.5)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.nan_to_num(scipy.stats.brunnermunzel(x, y, distribution="normal").statistic))

    reference = scipy.stats.permutation_test((a, b), statistic, n_resamples=np.inf, vectorized=False).pvalue
    assert stats.permutation_p(a, b) == pytest.approx(reference)


def test_permutation_of_many_seeds_is_drawn_and_close_to_the_asymptotic_test() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 30), rng.normal(0.6, 1, 30)
    p = stats.permutation_p(a, b)
    assert p == stats.permutation_p(a, b)
    assert p == pytest.approx(scipy.stats.brunnermunzel(a, b).pvalue, abs=0.01)
    assert stats.permutation_p(a, b + 100) == 2 / 20_000


@pytest.mark.parametrize(
    ("n_a", "n_b", "spread", "said"),
    [(5, 5, 3.0, 0.05), (5, 5, 10.0, 0.06), (6, 4, 10.0, 0.12), (8, 8, 10.0, 0.07)],
)
def test_error_under_unequal_spreads(n_a: int, n_b: int, spread: float, said: float) -> None:
    """Two models of one mean, the second varying more: told apart as often as the documentation says."""
    rng = np.random.default_rng(8)
    pairs = ((rng.normal(size=n_a), rng.normal(0, spread, n_b)) for _ in range(2000))
    assert np.mean([stats.permutation_p(a, b) <= 0.05 for a, b in pairs]) == pytest.approx(said, abs=0.015)


def test_permutation_degenerate() -> None:
    assert math.isnan(stats.permutation_p([1.0], [2.0, 3.0]))
    assert stats.permutation_p([1.0, 1.0], [1.0, 1.0, 1.0]) == 1.0


def test_identical_models_are_not_separated() -> None:
    """In at least 93 of 100 simulated studies of five seeds each, whatever the distribution."""
    rng = np.random.default_rng(2)
    for draw in (rng.normal, rng.exponential):
        p = np.array([stats.permutation_p(draw(size=5), draw(size=5)) for _ in range(1500)])
        assert (p > 0.05).mean() >= 0.93


def test_a_table_of_identical_models_separates_none() -> None:
    """Holm over the comparisons keeps the chance of any wrong separation below the level."""
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(400):
        models = rng.normal(size=(4, 6))
        best = int(models.mean(axis=1).argmin())
        p = stats.holm([stats.permutation_p(models[k], models[best]) for k in range(4) if k != best])
        wrong += bool((p <= 0.05).any())
    assert wrong / 400 <= 0.10  # the best is chosen by looking: at most about twice the level


def test_holm_by_hand_and_order() -> None:
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    kept = stats.holm([0.01, math.nan, 0.04])
    assert kept[[0, 2]] == pytest.approx([0.02, 0.04])
    assert math.isnan(kept[1])
    assert stats.holm([]).size == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_agrees_with_its_definition(p: list[float]) -> None:
    """The adjusted p is the smallest level at which Holm's step-down procedure rejects."""
    adjusted = stats.holm(p)
    for level in (0.01, 0.05, 0.2, 0.7):
        rejected = set()
        for step, k in enumerate(np.argsort(p, kind="stable")):
            if p[k] * (len(p) - step) > level:
                break
            rejected.add(int(k))
        assert set(np.flatnonzero(adjusted <= level)) == rejected


@pytest.mark.parametrize("n", [1, 2, 9, 40])
def test_holm_is_statsmodels(n: int) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is not installed")
    p = np.random.default_rng(n).uniform(size=n) ** 3
    assert stats.holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])


def test_improvement_by_hand() -> None:
    assert stats.improvement([1, 2], [2, 3], better="lower") == (1 + 1 + 0.5 + 1) / 4
    assert stats.improvement([1, 2], [2, 3], better="higher") == 0.125


@given(samples, samples)
def test_improvement_is_mann_whitneys_u(a: list[float], b: list[float]) -> None:
    u = scipy.stats.mannwhitneyu(a, b, method="asymptotic").statistic if set(a + b) != {a[0]} else None
    if u is not None:
        assert stats.improvement(a, b, better="higher") == pytest.approx(u / (len(a) * len(b)))
    both = stats.improvement(a, b, better="lower") + stats.improvement(a, b, better="higher")
    assert both == pytest.approx(1.0)


def test_improvement_interval() -> None:
    apart = stats.improvement_ci([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], better="lower")
    assert apart.high == 1.0
    assert 0.5 < apart.low < 0.8  # five seeds do not make it certain
    mixed = stats.improvement_ci(FEW, FEW, better="lower")
    assert mixed.low < 0.5 < mixed.high
    assert mixed.low == pytest.approx(1 - mixed.high)
    assert math.isnan(stats.improvement_ci([1.0], [2.0, 3.0], better="lower").low)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_improvement_interval_covers(shift: float) -> None:
    rng = np.random.default_rng(5)
    truth = scipy.stats.norm.cdf(shift / math.sqrt(2))
    holds = 0
    for _ in range(400):
        found = stats.improvement_ci(rng.normal(shift, 1, 8), rng.normal(0, 1, 8), better="higher")
        holds += found.low <= truth <= found.high
    assert 0.91 <= holds / 400 <= 0.99


# ---------------------------------------------------------------- power


@pytest.mark.parametrize(("effect", "n"), [(0.5, 64), (0.8, 26), (1.0, 17), (2.0, 6)])
def test_t_test_sizes_of_the_textbook(effect: float, n: int) -> None:
    """Power 80 % at 5 % (Cohen 1988, table 2.4.1); the closed form is at most one seed off."""
    assert n - 1 <= stats._t_test_size(effect, 0.8, 0.05) <= n


@pytest.mark.parametrize(("effect", "level"), [(0.3, 0.05), (1.0, 0.005), (0.1, 0.001)])
def test_t_test_sizes_are_statsmodels(effect: float, level: float) -> None:
    power = pytest.importorskip("statsmodels.stats.power", reason="statsmodels is not installed")
    expected = math.ceil(power.TTestIndPower().solve_power(effect, alpha=level, power=0.8))
    assert expected - 1 <= stats._t_test_size(effect, 0.8, level) <= expected


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("effect", [0.0, 0.5, 1.0, 2.0])
def test_seeds_needed_hold_the_true_need(n: int, effect: float) -> None:
    """From a pilot of a few seeds: the range holds the need in 78 of 100 studies or more."""
    rng = np.random.default_rng(9)
    need = max(4.0, stats._t_test_size(effect, 0.8, 0.05))
    pilots = ((rng.normal(size=n), rng.normal(effect, 1, n)) for _ in range(3000))
    held = [needed.low <= need <= needed.high for needed in (stats.seeds_needed(a, b) for a, b in pilots)]
    assert np.mean(held) >= 0.76


def test_with_as_many_seeds_as_needed_the_test_has_its_power() -> None:
    rng = np.random.default_rng(6)
    n = int(stats._t_test_size(1.5, 0.8, 0.05))
    found = [stats.permutation_p(rng.normal(0, 1, n), rng.normal(1.5, 1, n)) <= 0.05 for _ in range(400)]
    assert 0.65 <= np.mean(found) <= 0.85


def test_seeds_needed_degenerate() -> None:
    assert stats.seeds_needed([1.0, 2.0], [1.0, 2.0]) == stats.Interval(4, math.inf)
    assert math.isnan(stats.seeds_needed([1.0], [1.0, 2.0]).low)
    assert stats.seeds_needed([1.0, 1.0], [2.0, 2.0]) == stats.Interval(4, 4)  # the fewest that reach 0.05
    assert stats.seeds_needed([1.0, 1.0], [2.0, 2.0], k=10).low == 6  # 2/924 <= 0.005 < 2/252
    assert [stats.fewest_seeds(k) for k in (1, 3, 10)] == [4, 5, 6]


# ---------------------------------------------------------------- many models


def test_profile_counts_failed_runs() -> None:
    share = stats.profile([1.0, 2.0, math.nan, 4.0], [0.0, 2.0, 9.0], better="lower")
    assert share == pytest.approx([0.0, 0.5, 0.75])
    assert stats.profile([1.0, math.nan], [1.0], better="higher") == pytest.approx([0.5])
