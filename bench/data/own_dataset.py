"""A user's own data set: ``module:function``, or the name of an entry point in ``gan_bench.datasets``.

The function is given the folder of data sets (``--data-root``) and returns a ``torch.utils.data.Dataset``, or
a pair of them, training and test. Their items are pairs (image, label), or images alone where there are no
labels. ``python -m bench.conformance dataset`` checks it.

Letters beside arrays: N images, C channels, H height, W width.
"""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.folder import MIN_IMAGES
from bench.errors import UsageError, one_line
from bench.identity import outside

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64] | None]
"""Images (N, C, H, W), and their labels (N,) if they have any."""
MIN_PART = 10
"""The fewest images of a split: IS is a mean over ten of them."""


def read_own(name: str, data_root: Path) -> list[Arrays]:
    """One part, which is still to be split; or two, training and test.

    Nothing is converted that could be meant in two ways: images are uint8, channels first, or Pillow's.

    Raises:
        UsageError: there is no such function, it fails, or gives something else. The message names the item.
    """
    try:
        found = outside.find("--dataset", name)
    except UsageError as error:
        raise UsageError(str(error).removeprefix("--dataset: ")) from error
    try:
        given = found.function(data_root)
        sides = given if isinstance(given, tuple) else (given,)
        usable = [hasattr(side, "__getitem__") and hasattr(side, "__len__") for side in sides]
        if len(sides) > 2 or not all(usable):
            what = _kind(given)
            raise UsageError(f"it returns {what}, not a torch Dataset with a length, or a pair of them")
        parts = [_arrays(side) for side in sides]
    except UsageError:
        raise
    except Exception as error:  # it may raise anything
        raise UsageError(f"it fails: {one_line(error)}") from error
    _check(parts)
    return parts


def _arrays(items: Any) -> Arrays:
    images: list[NDArray[np.uint8]] = []
    labels: list[int | None] = []
    for i in range(len(items)):
        item = items[i]
        image, label = item if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
        images.append(_image(i, image))
        labels.append(None if label is None else _label(i, label))
        if images[i].shape != images[0].shape:
            raise UsageError(f"item {i} is {images[i].shape}, item 0 is {images[0].shape}; all must be alike")
        if (labels[i] is None) != (labels[0] is None):
            raise UsageError(f"of the items 0 and {i} one has a label and the other has none")
    if not images:
        raise UsageError("it has no items")
    return np.stack(images).copy(order="C"), None if labels[0] is None else np.array(labels, dtype=np.int64)


def _image(i: int, image: Any) -> NDArray[np.uint8]:
    """One image (C, H, W)."""
    mode = getattr(image, "mode", None)  # of Pillow
    if isinstance(mode, str):
        if mode not in ("L", "RGB"):
            raise UsageError(f"the image of item {i} has mode {mode}; convert it to L (grey) or RGB")
        pixels = np.asarray(image)
        return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        raise UsageError(
            f"the image of item {i} is {pixels.dtype}, not uint8 from 0 to 255; "
            "of torchvision's transforms take PILToTensor, not ToTensor"
        )
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise UsageError(f"the image of item {i} has shape {pixels.shape}, not (1, H, W) or (3, H, W)")
    return pixels


def _label(i: int, label: Any) -> int:
    try:
        number = operator.index(label)
    except TypeError:
        number = -1
    if number < 0:
        raise UsageError(f"the label of item {i} is {label!r}, not a whole number from 0 on")
    return number


def _check(parts: list[Arrays]) -> None:
    """Refuse parts that cannot be trained on and scored against."""
    sizes = [len(images) for images, _ in parts]
    if len(parts) == 1 and sizes[0] < MIN_IMAGES:
        raise UsageError(f"it has {sizes[0]} images; at least {MIN_IMAGES} are needed")
    if min(sizes) < MIN_PART:
        raise UsageError(
            f"its splits have {' and '.join(map(str, sizes))} images; {MIN_PART} are needed in each"
        )
    shapes = {images.shape[1:] for images, _ in parts}
    if len(shapes) > 1:
        raise UsageError(f"its splits have images of shapes {' and '.join(map(str, sorted(shapes)))}")
    labels = [labels for _, labels in parts if labels is not None]
    if labels and len(labels) < len(parts):
        raise UsageError("one of its splits has labels and the other has none")
    if labels:
        missing = sorted({*range(1 + int(max(map(np.max, labels))))} - {*np.concatenate(labels).tolist()})
        if missing:
            raise UsageError(f"no image has label {missing[0]}; labels count classes from 0, without gaps")


def _kind(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, tuple) else type(value).__name__
