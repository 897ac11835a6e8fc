"""Samples of a generator that was trained elsewhere: an array, or a folder of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data import folder
from bench.data.arrays import Read, Reading, read_array, wrong_shape
from bench.data.datasets import FOLDER, Dataset
from bench.errors import UsageError

LOSSY = (".jpeg", ".jpg", ".webp")
"""Formats that change pixels."""


def read_samples(path: Path, how: Reading, dataset: Dataset, most: int) -> Read:
    """The first ``most`` samples for a data set, with their labels if both have some.

    Raises:
        UsageError: they cannot be used. One line, which begins with the path: what, and how to mend it.
    """
    try:
        if path.is_dir():
            found = read_image_folder(path, how, dataset, most)
        else:
            found = read_array(path, how, shape=dataset.shape, most=most)
        if found.labels is None:
            return found
        if not dataset.n_classes:
            raise UsageError("it has labels and the data set has none; --unlabelled leaves them out")
        if (largest := int(found.labels.max())) >= dataset.n_classes:
            raise UsageError(
                f"it has the label {largest}, and the data set's labels are 0 to {dataset.n_classes - 1}"
            )
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return found


def read_image_folder(path: Path, how: Reading, dataset: Dataset, most: int) -> Read:
    """The first ``most`` images of a folder, in the order of their relative paths.

    If each image lies in a sub-folder, and there are several, these are classes: ``0``, ``1`` and so on, or
    for a data set that is a folder itself as many as it has, in alphabetic order. They are then taken in
    turns, the first of each class, the second of each, so that the first N are of all classes.

    Raises:
        UsageError: a file is lossy (JPEG, WebP), has another shape, or cannot be used for another reason.
    """
    if how != Reading(unlabelled=how.unlabelled):
        raise UsageError("--key, --labels-key, --layout and --range are for arrays; this is a folder")
    names = folder.names(path)
    if not names:
        raise UsageError(f"there are no images in it ({' '.join(folder.SUFFIXES)})")
    if lossy := [name for name in names if name.lower().endswith(LOSSY)]:
        raise UsageError(
            f"{lossy[0]!r} is compressed with loss, as {len(lossy):,} of {len(names):,} files are: that "
            "changes the scores; save samples as PNG, from the model's own pixels"
        )
    labels = None if how.unlabelled else _labels(names, dataset)
    if labels is not None:
        turn = np.empty(len(names), np.int64)
        for label in np.unique(labels):
            turn[labels == label] = np.arange(np.count_nonzero(labels == label))
        order = np.lexsort((labels, turn))
        names, labels = [names[k] for k in order], labels[order]
    n = min(most, len(names))
    images = np.empty((n, *dataset.shape), np.uint8)
    for k, name in enumerate(names[:n]):
        image = folder.read_image(path, name)
        c, h, w = image.shape
        if (c, h, w) != dataset.shape:
            raise UsageError(f"{name!r}: {wrong_shape((c, h, w), dataset.shape)}")
        images[k] = image
    return Read(images, None if labels is None else labels[:n], len(names))


def _labels(names: list[str], dataset: Dataset) -> NDArray[np.int64] | None:
    """The labels (N,) of images in sub-folders; None without sub-folders, or if the data has no labels."""
    found = folder.labels(names)
    if found is None or not dataset.n_classes:
        return None
    classes = sorted({name.split("/")[0] for name in names})
    if dataset.name.startswith(FOLDER):
        if len(classes) != dataset.n_classes:
            raise UsageError(
                f"it has {len(classes)} sub-folders, and the data set {dataset.n_classes} classes; "
                "--unlabelled ignores sub-folders"
            )
        return found
    numbers = [str(k) for k in range(dataset.n_classes)]
    if unknown := [name for name in classes if name not in numbers]:
        raise UsageError(
            f"its sub-folder {unknown[0]!r} is no class of {dataset.name}, which are 0 to "
            f"{dataset.n_classes - 1}; --unlabelled ignores sub-folders"
        )
    return np.array([int(name) for name in classes])[found]
