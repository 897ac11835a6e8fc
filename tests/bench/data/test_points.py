"""The data sets of points in the plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from baselines.gan import DataSpec
from bench.data import datasets
from bench.data.points import MIXTURES

HASHES = {
    "ring": "3cad9a2518607ae0d151b2fd1dd575bf6b109e81f0da269b1e492f2ad81d2811",
    "grid": "c367430f97cf2722b4315bcafc9f55d7ae5d680abe2c1162db1b641cacecf056",
}


@pytest.mark.parametrize("name", MIXTURES)
def test_points_are_fixed_and_of_the_published_mixture(name: str) -> None:
    dataset = datasets.load(name, data_root=Path("nowhere"), offline=True)
    assert dataset.sha256 == HASHES[name]
    assert dataset.spec == DataSpec(2, 1, 1, 0, points=True)
    assert datasets.spec_of(dataset.describe()) == dataset.spec
    assert (len(dataset.train), len(dataset.test)) == (100_000, 10_000)
    mixture, points = MIXTURES[name], dataset.train.images.reshape(-1, 2).astype(float)
    offsets = points[:, None] - np.array(mixture.centres)
    nearest = np.hypot(*offsets.transpose(2, 0, 1)).argmin(axis=1)
    share = np.bincount(nearest) / len(points)
    assert len(share) == len(mixture.centres)
    assert abs(share * len(share) - 1).max() < 0.06
    from_mean = offsets[np.arange(len(points)), nearest]
    assert from_mean.std(axis=0) == pytest.approx([mixture.sigma] * 2, rel=0.02)


def test_a_validation_split_is_taken_out_of_training() -> None:
    dataset = datasets.load("ring", data_root=Path("nowhere"), offline=True, holdout=True)
    assert dataset.val is not None
    assert (len(dataset.train), len(dataset.val)) == (90_000, 10_000)
    assert dataset.points
