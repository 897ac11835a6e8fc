"""Scores of points in the plane: known answers, and what holds for any points."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.data.points import MIXTURES, Mixture
from bench.scoring.points import scores

RING, GRID = MIXTURES["ring"], MIXTURES["grid"]
BEYOND_3_SIGMA = exp(-4.5)
"""Of a round Gaussian in the plane: 1.1 %."""


def at(mixture: Mixture, counts: dict[int, int], away: float = 0.0) -> Tensor:
    """So many points at each of these centres, ``away`` units of σ to the right of it."""
    places = [mixture.centres[k] for k, n in counts.items() for _ in range(n)]
    points = torch.tensor(places, dtype=torch.float64) + torch.tensor([away * mixture.sigma, 0.0])
    return points.float().reshape(-1, 2, 1, 1)


@pytest.mark.parametrize("mixture", [RING, GRID])
def test_equally_many_points_at_every_centre(mixture: Mixture) -> None:
    found = scores(at(mixture, dict.fromkeys(range(len(mixture.centres)), 5)), mixture)
    assert found == {"reverse_kl": pytest.approx(0), "modes": len(mixture.centres), "high_quality": 1}


def test_one_mode_alone() -> None:
    assert scores(at(GRID, {7: 40}), GRID) == {
        "reverse_kl": pytest.approx(log(25)),
        "modes": 1,
        "high_quality": 1,
    }


def test_reverse_kl_by_hand() -> None:
    found = scores(at(RING, {0: 3, 5: 1}), RING)
    assert found["reverse_kl"] == pytest.approx(0.75 * log(0.75 * 8) + 0.25 * log(0.25 * 8))
    assert found["modes"] == 2


def test_three_sigma_is_the_edge_of_high_quality_and_only_such_points_count() -> None:
    points = torch.cat([at(RING, {0: 3}, away=2.99), at(RING, {4: 1}, away=3.01)])
    assert scores(points, RING) == {"reverse_kl": pytest.approx(log(8)), "modes": 1, "high_quality": 0.75}


def test_without_any_high_quality_the_scores_are_the_worst() -> None:
    assert scores(torch.zeros(9, 2, 1, 1), RING) == {
        "reverse_kl": pytest.approx(log(8)),
        "modes": 0,
        "high_quality": 0,
    }


@pytest.mark.parametrize("mixture", [RING, GRID])
def test_points_of_the_mixture_itself(mixture: Mixture) -> None:
    points = torch.from_numpy(mixture.sample(20_000, np.random.RandomState(1)))
    found, n = scores(points, mixture), len(mixture.centres)
    assert found["modes"] == n
    assert found["high_quality"] == pytest.approx(1 - BEYOND_3_SIGMA, abs=0.003)
    assert found["reverse_kl"] == pytest.approx((n - 1) / 2 / 20_000, abs=5e-4)


points_anywhere = st.lists(
    st.tuples(st.floats(-5, 5, width=32), st.floats(-5, 5, width=32)), min_size=1, max_size=30
)


@given(points_anywhere, st.integers(0, 24), st.integers(0, 20))
def test_ranges_and_order_hold_for_any_points(
    anywhere: list[tuple[float, float]], mode: int, good: int
) -> None:
    sure = at(GRID, {mode: good} if good else {0: 1})
    points = torch.cat([torch.tensor(anywhere).reshape(-1, 2, 1, 1), sure])
    found = scores(points, GRID)
    assert 0 <= found["reverse_kl"] <= log(25) + 1e-9
    assert found["modes"] in range(26)
    assert 0 <= found["high_quality"] <= 1
    assert scores(points.flip(0), GRID) == pytest.approx(found)
    assert found["reverse_kl"] >= log(25 / max(1, found["modes"])) - 1e-9
