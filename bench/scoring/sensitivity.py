"""What each score sees and misses: the scores of real images that were changed in known ways.

The training split is divided at random. One half is what a model is taken to be trained on. The other half is
fresh: unchanged, it is what a perfect model would make.

Letters beside arrays: N images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bench.data.datasets import Dataset, Images

Pixels = NDArray[np.uint8]
Change = tuple[str, Pixels]

REPEATED = 100
NOISE = (16, 32)
"""Standard deviations, of 255."""
BLUR = (0.8, 1.2)
SHIFT = (1, 3)
"""Pixels of an image that is 28 pixels wide; see :func:`pixels_of`."""
DROPPED = (1, 3)
"""Classes."""


def divided(dataset: Dataset) -> tuple[Dataset, Images]:
    """The data set with one half of its training split, and the fresh other half."""
    order = np.random.RandomState(0).permutation(len(dataset.train))
    half = len(order) // 2
    return replace(dataset, train=dataset.train[order[half:]]), dataset.train[order[:half]]


def changes(trained: Dataset, fresh: Images, n: int) -> Iterator[Change]:
    """What was changed, and ``n`` fresh images (N, C, H, W) with that change; first those without any.

    They are the same images each time, but for those that take the place of dropped classes, and for copies
    of what was trained on. Where there are fewer than ``n``, they are used again in the same order, so that
    none comes twice in a block of the size of the test split, in which precision and recall are computed.
    """
    images = first(fresh.images, n)
    yield "nothing", images
    for deviation in NOISE:
        yield f"noise, σ = {deviation}", noisy(images, deviation)
    for sigma in pixels_of(BLUR, images):
        yield f"blur, {sigma:g} pixels", blurred(images, sigma)
    yield "darker, × 0.75", scaled(images, 0.75)
    yield "brighter, × 1.25", scaled(images, 1.25)
    for shift in sorted({max(1, round(each)) for each in pixels_of(SHIFT, images)}):
        yield f"shift, {shift} pixel{'s' * (shift > 1)}", shifted(images, shift)
    for k in DROPPED:
        if k < trained.n_classes:
            name = "class 0" if k == 1 else f"classes 0 to {k - 1}"
            yield f"without {name}", first(without(fresh, range(k)), n)
    yield f"{REPEATED} images, repeated", first(images[:REPEATED], n)
    copies = first(trained.train.images, n)
    # Each copy stands in the place of a fresh image, so that no image comes twice in a block.
    yield (
        "50 % copies of training images",
        np.where((np.arange(n) % 2 == 0)[:, None, None, None], copies, images),
    )
    yield "all copies of training images", copies


def first(images: Pixels, n: int) -> Pixels:
    """The first ``n`` images; from the beginning again where there are fewer."""
    return np.resize(images, (n, *images.shape[1:]))


def pixels_of(lengths: tuple[float, ...], images: Pixels) -> list[float]:
    """Lengths for images of this size: as given from a width of 28 pixels on, half of it for smaller ones."""
    return [length if images.shape[-1] >= 28 else length / 2 for length in lengths]


def noisy(images: Pixels, deviation: float) -> Pixels:
    """Gaussian noise of this standard deviation on every pixel."""
    return _uint8(images + deviation * np.random.RandomState(0).standard_normal(images.shape))


def blurred(images: Pixels, sigma: float) -> Pixels:
    """A Gaussian filter of this standard deviation in pixels."""
    return _uint8(ndimage.gaussian_filter(images.astype(np.float32), (0, 0, sigma, sigma), mode="nearest"))


def scaled(images: Pixels, factor: float) -> Pixels:
    """Every pixel times a factor."""
    return _uint8(images * np.float32(factor))


def shifted(images: Pixels, pixels: int) -> Pixels:
    """Moved to the right; the left column fills the gap."""
    return np.pad(images, ((0, 0), (0, 0), (0, 0), (pixels, 0)), mode="edge")[..., :-pixels]


def without(images: Images, classes: range) -> Pixels:
    """The images of all other classes."""
    assert images.labels is not None
    return images.images[~np.isin(images.labels, classes)]


def _uint8(images: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.rint(images).clip(0, 255), dtype=np.uint8)
