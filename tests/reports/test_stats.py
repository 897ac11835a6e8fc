"""Statistics against cases solved by hand, against scipy, and against simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import stats

FEW = [3.0, 1.0, 4.0, 1.0, 5.0]

numbers = st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False)
samples = st.lists(numbers, min_size=1, max_size=12)
whole = st.lists(st.integers(-50, 50), min_size=2, max_size=5)


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
    """Ranks by hand: (1, 2, 9, 9, 9) against (3, 4, 5, 6, 7): infinities tie, and p is that of ranks."""
    some_failed, none = [1.0, 2.0, math.inf, math.inf, math.inf], [10.0, 11.0, 12.0, 13.0, 14.0]
    ranks = [1, 2, 9, 9, 9], [3, 4, 5, 6, 7]
    assert stats.permutation_p(some_failed, none) == stats.permutation_p(*ranks)
    assert stats.improvement(some_failed, none, better="lower") == pytest.approx(10 / 25)
    assert stats.improvement([math.inf] * 2, [math.inf] * 2, better="lower") == 0.5
    assert stats.improvement([-math.inf], [0.0], better="higher") == 0.0
    assert math.isnan(stats.seeds_needed(some_failed, none))


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


def test_interval_is_reproducible_holds_the_mean_and_widens_with_confidence() -> None:
    wide, narrow = stats.mean_ci(FEW, confidence=0.99), stats.mean_ci(FEW, confidence=0.8)
    assert stats.mean_ci(FEW) == stats.mean_ci(FEW)
    assert min(FEW) <= wide.low < narrow.low < np.mean(FEW) < narrow.high < wide.high <= max(FEW)


def test_intervals_of_rows_are_those_of_each_row() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 6))
    rows[1] = 2.0
    together = stats.mean_cis(rows)
    for row, interval in zip(rows, together, strict=True):
        alone = stats.mean_ci(row)
        assert interval.low == pytest.approx(alone.low)
        assert interval.high == pytest.approx(alone.high)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mean"), [("normal", 0.0), ("exponential", 1.0), ("gumbel", np.euler_gamma), ("uniform", 0.5)]
)
def test_coverage_at_ten_seeds(name: str, mean: float) -> None:
    """The interval holds the true mean in 90 to 98 of 100 studies, on normal and on skewed scores."""
    rng = np.random.default_rng(1)
    studies = getattr(rng, name)(size=(1000, 10))
    holds = [interval.low <= mean <= interval.high for interval in stats.mean_cis(studies)]
    assert 0.90 <= np.mean(holds) <= 0.98


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


@settings(deadline=None)
@given(whole, whole)
def test_permutation_agrees_with_scipy(a: list[int], b: list[int]) -> None:
    """On whole numbers: SciPy takes ties that differ by rounding for different."""
    reference = scipy.stats.permutation_test(
        (a, b), lambda x, y: np.mean(x) - np.mean(y), n_resamples=np.inf, vectorized=False
    ).pvalue
    assert stats.permutation_p(a, b) == pytest.approx(reference)


def test_ties_up_to_rounding_are_ties() -> None:
    # The groups of three that hold 524288 and two different others have one sum, differently rounded.
    a, b = [0.0, 0.99999, 524288.0], [0.99999, 523572.0, 0.99999]
    assert stats.permutation_p(a, b) == stats.permutation_p([0, 1, 524288], [1, 523572, 1])


def test_permutation_of_many_seeds_is_drawn_and_close_to_a_t_test() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 30), rng.normal(0.6, 1, 30)
    p = stats.permutation_p(a, b)
    assert p == stats.permutation_p(a, b)
    assert p == pytest.approx(scipy.stats.ttest_ind(a, b).pvalue, abs=0.01)
    assert stats.permutation_p(a, b + 100) == 2 / 20_000


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


def test_seeds_needed_is_the_t_tests_size() -> None:
    # d = 1 at 80 % and 5 %: 17 per group (Cohen 1988, table 2.4.1).
    a = np.array([-1.0, 0.0, 1.0])
    assert stats.seeds_needed(a, a + 1.0) == 17


@pytest.mark.parametrize(("effect", "n"), [(0.5, 64), (0.8, 26), (2.0, 6)])
def test_t_test_sizes_of_the_textbook(effect: float, n: int) -> None:
    assert stats._t_test_size(effect, 0.8, 0.05) == n


@pytest.mark.parametrize(("effect", "n"), [(0.3, 5), (1.0, 17), (3.0, 3)])
def test_power_is_statsmodels(effect: float, n: int) -> None:
    power = pytest.importorskip("statsmodels.stats.power", reason="statsmodels is not installed")
    expected = power.TTestIndPower().power(effect, n, 0.05)
    assert stats._t_test_power(effect, n, 0.05) == pytest.approx(expected)


def test_seeds_needed_keep_their_promise() -> None:
    """With as many seeds as advised, the permutation test separates in about 80 of 100 studies."""
    rng = np.random.default_rng(6)
    a = np.array([-1.0, 0.0, 1.0])
    n = int(stats.seeds_needed(a, a + 1.5))
    found = [stats.permutation_p(rng.normal(0, 1, n), rng.normal(1.5, 1, n)) <= 0.05 for _ in range(200)]
    assert 0.70 <= np.mean(found) <= 0.92


def test_seeds_needed_degenerate() -> None:
    assert stats.seeds_needed([1.0, 2.0], [1.0, 2.0]) == math.inf
    assert math.isnan(stats.seeds_needed([1.0], [1.0, 2.0]))
    assert stats._t_test_size(5.0, 0.8, 0.05) == 3
    assert stats.seeds_needed([0.0, 1.0, 2.0], [5.0, 6.0, 7.0]) == 4  # though a t-test could do with 3
    assert stats.seeds_needed([1.0, 1.0], [2.0, 2.0]) == 4  # the fewest for which p can reach 0.05
    assert stats.seeds_needed([1.0, 1.0], [2.0, 2.0], k=10) == 6  # 2/924 <= 0.005 < 2/252


# ---------------------------------------------------------------- many models


def test_profile_counts_failed_runs() -> None:
    share = stats.profile([1.0, 2.0, math.nan, 4.0], [0.0, 2.0, 9.0], better="lower")
    assert share == pytest.approx([0.0, 0.5, 0.75])
    assert stats.profile([1.0, math.nan], [1.0], better="higher") == pytest.approx([0.5])
