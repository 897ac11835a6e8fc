"""The pictures of a run: what samples are looked at beside."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.scoring import pictures


@pytest.mark.parametrize("block", [1, 100, 2**22])
def test_the_nearest_image_is_the_one_with_the_least_squared_difference(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "BLOCK", block)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 3, 4, 5), dtype=np.uint8)
    images[40] = images[7]  # of equals the first counts
    samples = rng.integers(0, 256, (6, 3, 4, 5), dtype=np.uint8)
    samples[2] = images[40]
    apart = (samples[:, None].astype(int) - images[None].astype(int)) ** 2
    expected = apart.reshape(6, 50, -1).sum(-1).argmin(1)
    found = pictures.nearest(torch.from_numpy(samples), torch.from_numpy(images))
    assert found.tolist() == expected.tolist()
    assert found[2] == 7


def test_differences_are_exact_where_float32_is_not() -> None:
    """Sums of squares beyond 2**24 that differ by one."""
    image = torch.full((1, 1, 100, 100), 255, dtype=torch.uint8)
    images = image.repeat(2, 1, 1, 1)
    images[0, 0, 0, 0] -= 1
    assert pictures.nearest(torch.zeros_like(image), images).tolist() == [0]
    assert pictures.nearest(torch.zeros_like(image), images.flip(0)).tolist() == [1]
