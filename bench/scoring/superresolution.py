"""Scores of restored images against the originals, by scikit-image, on uint8 pixels.

SSIM is that of Wang et al. 2004: windows of 11×11 within the image, Gaussian weights with σ = 1.5, population
covariance. Where a side has fewer than 11 pixels, windows are 7×7, or the largest that fit, with equal
weights. Both scores are means over all channels and all pixels. Ledig et al. 2016 score the luminance alone,
and leave out four pixels at each border.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]

BEST_PSNR = 10 * np.log10(255**2 * 12)
"""59 dB: the PSNR of a mean squared error of 1/12, which is the error of rounding to whole numbers. An image
that is restored exactly counts as this, not as infinity."""


def bicubic(low: Tensor, scale: int) -> Tensor:
    """Enlarge images (B, C, L, M) by ``scale`` r -> (B, C, L·r, M·r) in [-1, 1]: the baseline to beat."""
    size = (low.shape[-2] * scale, low.shape[-1] * scale)
    return F.interpolate(low, size, mode="bicubic").clamp(-1, 1)


def restoration_scores(restored: Pixels, bicubic: Pixels, original: Pixels) -> dict[str, float]:
    """PSNR (dB) and SSIM of images (N, C, H, W), means over images, and those of bicubic interpolation."""
    psnr, ssim = _scores(restored, original)
    psnr_bicubic, ssim_bicubic = _scores(bicubic, original)
    return {"psnr": psnr, "ssim": ssim, "psnr_bicubic": psnr_bicubic, "ssim_bicubic": ssim_bicubic}


def _scores(images: Pixels, originals: Pixels) -> tuple[float, float]:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    window = _window(min(originals.shape[-2:]))
    psnr, ssim = [], []
    for image, original in zip(images, originals, strict=True):
        with np.errstate(divide="ignore"):
            psnr.append(min(BEST_PSNR, peak_signal_noise_ratio(original, image, data_range=255)))
        ssim.append(structural_similarity(original, image, data_range=255, channel_axis=0, **window))
    return float(np.mean(psnr)), float(np.mean(ssim))


def _window(side: int) -> dict[str, Any]:
    """The window of SSIM for images whose shorter side has so many pixels."""
    if side >= 11:
        return {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    largest_odd = side - 1 + side % 2
    return {"win_size": min(7, largest_odd), "use_sample_covariance": False}
