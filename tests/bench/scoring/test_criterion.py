"""The judgement of the discriminator: made-up histories with known answers, properties, brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench.scoring.criterion import accuracy, best_threshold, judge, near_half

Array = NDArray[np.float64]


def history(real: object, fake: object) -> dict[str, Array]:
    real, fake = np.broadcast_arrays(np.asarray(real, dtype=float), np.asarray(fake, dtype=float))
    return {"d_acc_real": real, "d_acc_fake": fake}


def constant(real: float, fake: float, n: int = 1000) -> dict[str, Array]:
    return history(np.full(n, real), np.full(n, fake))


# ---------------------------------------------------------------- histories with known answers


@pytest.mark.parametrize(
    ("real", "fake", "expected"),
    [
        (0.60, 0.61, True),  # the seed article's equilibrium
        (0.50, 0.50, True),
        (0.65, 0.65, True),  # on the bound
        (0.66, 0.66, False),
        (0.35, 0.35, True),
        (0.34, 0.34, False),  # a discriminator that is wrong more often than a coin
        (0.65, 0.35, True),  # on the bound of the gap
        (0.66, 0.34, False),
        (1.00, 0.00, False),  # all real: 50 % on average, and blind
        (0.00, 1.00, False),  # all fake
        (1.00, 1.00, False),  # perfect: the generator lost
        (0.00, 0.00, False),
        (math.nan, 0.5, False),
    ],
)
def test_constant_histories(real: float, fake: float, expected: bool) -> None:
    verdict = judge(constant(real, fake))
    assert verdict["near_half"] is expected
    assert near_half(real, fake) is expected
    assert verdict["near_half_since"] == (100 if expected else None)  # the first full window of 1000


def test_the_mean_accuracies_are_those_of_the_last_tenth() -> None:
    real = np.concatenate([np.ones(900), np.full(100, 0.6)])
    fake = np.concatenate([np.ones(900), np.full(100, 0.5)])
    train = judge(history(real, fake))["train"]
    assert train == pytest.approx({"real": 0.6, "fake": 0.5, "balanced": 0.55})


def test_since_a_discriminator_lost_its_lead() -> None:
    # Perfect for 500 iterations, then 0.5. The mean over 100 ending at t is 1 - (t - 500) / 200,
    # which is at most 0.65 from t = 570 on.
    acc = np.concatenate([np.ones(500), np.full(500, 0.5)])
    verdict = judge(history(acc, acc))
    assert verdict["near_half"]
    assert verdict["near_half_since"] == 570


def test_since_counts_the_last_entry_only() -> None:
    # In the band from the start but for one excursion of 100 iterations, which is over for the
    # moving mean when at most 30 of a window's 100 are at 1: at t = 670.
    acc = np.full(1000, 0.5)
    acc[500:600] = 1.0
    assert judge(history(acc, acc))["near_half_since"] == 670


def test_a_collapse_at_the_end_is_not_near_half() -> None:
    acc = np.concatenate([np.full(900, 0.5), np.ones(100)])
    verdict = judge(history(acc, acc))
    assert not verdict["near_half"]
    assert verdict["near_half_since"] is None


@pytest.mark.parametrize("period", [1, 2, 10, 50, 100, 500])
def test_a_discriminator_that_swings_between_all_real_and_all_fake_is_not_near_half(period: int) -> None:
    """However fast: the means of both accuracies over a window can be one half each."""
    swing = (np.arange(1000) // period) % 2
    verdict = judge(history(swing, 1 - swing))
    assert not verdict["near_half"]
    assert verdict["near_half_since"] is None
    if period <= 50:
        assert verdict["train"] == {"real": 0.5, "fake": 0.5, "balanced": 0.5}


def test_it_may_swing_in_three_of_ten_iterations_at_most() -> None:
    rng = np.random.default_rng(0)
    for share, expected in ((0.25, True), (0.35, False)):
        real = np.where(rng.random(20_000) < share, rng.integers(0, 2, 20_000), 0.5)
        assert judge(history(real, 1 - real))["near_half"] is expected


@pytest.mark.parametrize("batch", [8, 16, 32, 128])
@pytest.mark.parametrize("p", [0.5, 0.6])
def test_the_noise_of_batches_is_not_taken_for_swings(batch: int, p: float) -> None:
    """An honest discriminator, right with probability p, over 300 iterations; a tenth of 3,000."""
    rng = np.random.default_rng(batch)
    real, fake = rng.binomial(batch, p, (2, 3000)) / batch
    assert judge(history(real, fake))["near_half"]
    noise = np.abs(real - fake).mean()
    assert noise == pytest.approx(0.564 / np.sqrt(batch) * 2 * np.sqrt(p * (1 - p)), rel=0.1)


@pytest.mark.parametrize("n", range(1, 25))
def test_short_histories_are_judged_over_a_tenth_rounded_up(n: int) -> None:
    verdict = judge(constant(0.5, 0.5, n))
    assert verdict["near_half"]
    assert verdict["near_half_since"] == math.ceil(n / 10)
    assert verdict["train"] == {"real": 0.5, "fake": 0.5, "balanced": 0.5}


def test_an_empty_history_has_no_accuracy() -> None:
    undefined = {"real": None, "fake": None, "balanced": None}
    assert judge(history([], [])) == {"train": undefined, "near_half": False, "near_half_since": None}
    assert not near_half([], [])


def test_a_nan_spoils_its_windows_and_no_others() -> None:
    early, late = np.full(1000, 0.5), np.full(1000, 0.5)
    early[299] = math.nan  # in every window from t = 300 to t = 399
    late[-1] = math.nan
    assert judge(history(early, 0.5))["near_half_since"] == 400
    verdict = judge(history(0.5, late))
    assert verdict["train"] == {"real": None, "fake": None, "balanced": None}
    assert not verdict["near_half"]


def test_the_tolerance_is_the_callers() -> None:
    assert near_half(0.7, 0.7, tolerance=0.2)
    assert not near_half(0.6, 0.6, tolerance=0.05)
    assert judge(constant(0.7, 0.7), tolerance=0.2)["near_half"]
    assert near_half(1.0, 0.0, max_gap=1.0)


def plain_judgement(real: Array, fake: Array, tolerance: float) -> int | None:
    """The definition of ``near_half_since`` in the module's docstring, word for word."""
    n = len(real)
    w = math.ceil(n / 10)
    since = None
    for t in range(n, w - 1, -1):
        r, f = real[t - w : t], fake[t - w : t]
        near = abs((r + f).mean() / 2 - 0.5) <= tolerance + 1e-9
        if not (near and abs(r - f).mean() <= 0.30 + 1e-9):
            break
        since = t
    return since


# Accuracies of a batch of 8, so that both ways of averaging are exact.
accuracies = st.lists(
    st.tuples(st.integers(2, 6), st.integers(2, 6)) | st.tuples(st.integers(0, 8), st.integers(0, 8)),
    min_size=1,
    max_size=120,
)


@given(accuracies, st.sampled_from([0.0, 0.05, 0.15, 0.5]))
def test_judge_is_its_definition(pairs: list[tuple[int, int]], tolerance: float) -> None:
    real, fake = np.array(pairs, dtype=float).T / 8
    verdict = judge(history(real, fake), tolerance)
    assert verdict["near_half_since"] == plain_judgement(real, fake, tolerance)
    assert verdict["near_half"] is (verdict["near_half_since"] is not None)
    assert verdict["near_half"] is near_half(real, fake, tolerance)


@given(accuracies)
def test_judge_treats_real_and_fake_alike_and_is_mirrored(pairs: list[tuple[int, int]]) -> None:
    real, fake = np.array(pairs, dtype=float).T / 8
    since = judge(history(real, fake))["near_half_since"]
    assert judge(history(fake, real))["near_half_since"] == since
    assert judge(history(1 - real, 1 - fake))["near_half_since"] == since


# ---------------------------------------------------------------- accuracies of scores


def test_accuracy_counts_strictly_above_the_threshold_as_real() -> None:
    result = accuracy([0.0, 0.1, 2.0, -1.0], [0.0, -1.0], threshold=0.0)
    assert result == {"real": 0.5, "fake": 1.0, "balanced": 0.75}


def test_nan_is_wrong_on_either_side() -> None:
    assert accuracy([math.nan], [math.nan], 0.0) == {"real": 0.0, "fake": 0.0, "balanced": 0.0}


def test_accuracy_needs_scores() -> None:
    with pytest.raises(ValueError, match="no scores of fake images"):
        accuracy([1.0], [], 0.0)


def test_a_constant_discriminator_is_never_credited() -> None:
    same = np.full(50, 0.3, dtype=np.float32)
    threshold = best_threshold(same, same)
    result = accuracy(same, same, threshold)
    assert result["balanced"] == 0.5
    assert not near_half(result["real"], result["fake"])


def test_a_separating_critic_is_told_apart_perfectly() -> None:
    real, fake = np.array([5.0, 6.0, 7.0]), np.array([-3.0, 1.0, 4.0])
    threshold = best_threshold(real, fake)
    assert threshold == 4.0
    assert accuracy(real, fake, threshold)["balanced"] == 1.0


def test_a_critic_that_cannot_tell_is_near_half() -> None:
    scores = np.arange(1001.0)
    result = accuracy(scores, scores, best_threshold(scores, scores))
    assert result["balanced"] == pytest.approx(0.5)
    assert near_half(result["real"], result["fake"])


scores = st.lists(
    st.integers(-4, 4).map(float) | st.sampled_from([math.nan, math.inf]), min_size=1, max_size=12
)


@given(scores, scores)
def test_best_threshold_beats_every_other(real: list[float], fake: list[float]) -> None:
    candidates = sorted({s for s in real + fake if math.isfinite(s)})
    if not candidates:
        with pytest.raises(ValueError, match="at least one finite score"):
            best_threshold(real, fake)
        return

    def rank(threshold: float) -> tuple[float, float, float]:
        right_real = sum(s > threshold for s in real) * len(fake)
        right_fake = sum(s <= threshold for s in fake) * len(real)
        return -(right_real + right_fake), abs(right_real - right_fake), threshold

    assert best_threshold(real, fake) == min(candidates, key=rank)


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1), st.lists(st.floats(-1e6, 1e6, width=32), min_size=1)
)
def test_no_threshold_at_all_is_better(real: list[float], fake: list[float]) -> None:
    best = accuracy(real, fake, best_threshold(real, fake))["balanced"]
    for threshold in (-math.inf, math.inf, 0.0, *real, *fake):
        assert accuracy(real, fake, threshold)["balanced"] <= best + 1e-12
    assert best >= 0.5
