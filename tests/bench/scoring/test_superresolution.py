"""PSNR and SSIM of restored images, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import correlate2d

from bench.scoring.superresolution import BEST_PSNR, Pixels, restoration_scores

rng = np.random.default_rng(0)


def pair(*shape: int) -> tuple[Pixels, Pixels]:
    """Smooth images (N, C, H, W), and the same with noise on them."""
    original = np.cumsum(rng.normal(0, 20, shape), axis=-1) + 128
    noisy = original + rng.normal(0, 15, shape)
    return tuple(image.clip(0, 255).astype(np.uint8) for image in (original, noisy))


def ssim(x: Pixels, y: Pixels, weights: NDArray[np.float64]) -> float:
    """Wang et al. 2004, equations 13 to 17, of one channel (H, W)."""
    a, b = x.astype(float), y.astype(float)

    def local(image: NDArray[np.float64]) -> NDArray[np.float64]:
        return correlate2d(image, weights, mode="valid")

    mean_a, mean_b = local(a), local(b)
    var_a, var_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    both = local(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    likeness = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    return float((likeness / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def gaussian() -> NDArray[np.float64]:
    """11×11, σ = 1.5, of sum 1."""
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    return np.outer(line, line) / line.sum() ** 2


def even(side: int) -> NDArray[np.float64]:
    return np.full((side, side), 1 / side**2)


@pytest.mark.parametrize(
    ("shape", "weights"),
    [
        ((2, 1, 28, 28), gaussian()),
        ((2, 3, 32, 32), gaussian()),
        ((1, 1, 11, 16), gaussian()),
        ((2, 1, 10, 16), even(7)),
        ((2, 1, 8, 8), even(7)),
        ((2, 1, 4, 4), even(3)),
    ],
    ids=str,
)
def test_ssim_is_that_of_its_definition(shape: tuple[int, ...], weights: NDArray[np.float64]) -> None:
    original, noisy = pair(*shape)
    expected = np.mean(
        [
            ssim(x, y, weights)
            for image, other in zip(original, noisy, strict=True)
            for x, y in zip(image, other, strict=True)
        ]
    )
    scores = restoration_scores(noisy, original, original)
    assert 0 < expected < 0.99
    assert scores["ssim"] == pytest.approx(expected, abs=1e-9)
    assert scores["ssim_bicubic"] == 1


def test_psnr_counts_every_channel_and_pixel() -> None:
    original, noisy = pair(3, 3, 16, 16)
    errors = ((original.astype(float) - noisy) ** 2).mean(axis=(1, 2, 3))
    scores = restoration_scores(noisy, original, original)
    assert scores["psnr"] == pytest.approx(np.mean(10 * np.log10(255**2 / errors)), rel=1e-9)
    assert scores["psnr_bicubic"] == pytest.approx(BEST_PSNR)
