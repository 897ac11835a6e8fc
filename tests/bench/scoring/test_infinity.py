"""FID∞ where it is known, and what is refused."""

from __future__ import annotations

import pytest
import torch

from bench.scoring.infinity import extrapolate
from bench.scoring.metrics import ScoreError

SHIFT = 0.3
DIM = 16


def normal(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exactly_normal(n: int) -> torch.Tensor:
    """Features whose sample mean is 0 and whose sample covariance is the identity, to rounding."""
    x = normal(n, 0)
    x -= x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T


def test_the_bias_of_few_samples_is_taken_off() -> None:
    """Two Gaussians that differ in their mean alone: the FID of infinitely many samples is |shift|²."""
    true = DIM * SHIFT**2
    errors, biases = [], []
    for seed in range(5):
        found = extrapolate(exactly_normal(100), normal(2000, seed + 1) + SHIFT, seed)
        assert found["n"][0] == 200
        assert found["n"][-1] == 2000
        errors.append(found["fid_infinity"] - true)
        biases.append(found["fid"][0] - true)
    assert torch.tensor(biases).mean() > 0.2  # FID of 200 samples
    assert torch.tensor(errors).mean().abs() < 0.05


def test_degenerate_samples_and_too_few() -> None:
    same = extrapolate(normal(200, 0), torch.ones(200, DIM, dtype=torch.float64), 0)
    assert abs(same["fid_infinity"] - same["fid"][-1]) < 1e-6  # nothing depends on how many copies there are
    with pytest.raises(ScoreError, match="FID∞ of 16 features needs 64 samples or more, and there are 63"):
        extrapolate(normal(200, 0), normal(63, 1), 0)
