"""An array of images as a data set: an ``.npz`` or ``.npy`` file, read by :mod:`bench.data.arrays`.

Everything that the reader needs is in the file, so that it means the same in any process.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data.arrays import SUFFIXES, Reading, read_array
from bench.data.folder import MIN_IMAGES
from bench.errors import UsageError

IMAGES = ("images", "arr_0")
LABELS = ("labels", "arr_1")
"""Names in an ``.npz``; the first that is there counts."""
RANGE = "range"
"""What black and white are, of float images: two numbers."""
MOST_RANGE = 2**12
"""Bytes of that array, with its header."""

MENDS: Mapping[str, str] = {
    "say what is black and what is white, as in --range 0 1 or --range -1 1": (
        "save uint8, or add an array 'range' to an .npz, such as [0, 1] or [-1, 1]"
    ),
    "or float and say --range": "or float and an array 'range', such as [-1, 1]",
    "--range: the images": "array 'range': the images",
    "--range ": "array 'range' is ",
    "; --unlabelled leaves them out": "",
    "say --layout NHWC or NCHW": "save square images",
}
"""What the reader's messages say to a command with flags, and what they say here."""


def read_array_set(path: str) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Images (N, C, H, W) and, where there are any, their labels (N,), numbered from 0 without gaps.

    An ``.npz`` holds ``images`` (or ``arr_0``), perhaps ``labels`` (or ``arr_1``), and ``range`` for float
    images; an ``.npy`` holds the images alone.

    Raises:
        UsageError: the file cannot be used, or holds fewer than ``MIN_IMAGES`` images.
    """
    file = Path(path)
    if not path or not file.exists():
        raise UsageError("there is no such file")
    if file.suffix.lower() not in SUFFIXES:
        raise UsageError(f"is not one of {', '.join(SUFFIXES)}")
    try:
        found = read_array(file, _reading(file))
    except UsageError as error:
        message = str(error)
        for said, here in MENDS.items():
            message = message.replace(said, here)
        raise UsageError(message) from error
    if len(found.images) < MIN_IMAGES:
        raise UsageError(f"{len(found.images)} images in it; at least {MIN_IMAGES} are needed")
    if found.labels is None:
        return found.images, None
    classes, labels = np.unique(found.labels, return_inverse=True)
    return found.images, labels.astype(np.int64) if len(classes) > 1 else None


def _reading(file: Path) -> Reading:
    """How the file says that it is to be read. What is wrong with it is for the reader to say."""
    how = Reading()
    with suppress(zipfile.BadZipFile, OSError, ValueError, EOFError, KeyError), zipfile.ZipFile(file) as held:
        sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in held.infolist()}
        how = Reading(
            key=next((name for name in IMAGES if name in sizes), None),
            labels_key=next((name for name in LABELS if name in sizes), None),
        )
        if RANGE in sizes and sizes[RANGE] <= MOST_RANGE:
            member = io.BytesIO(held.read(f"{RANGE}.npy"))
            values = np.lib.format.read_array(member, allow_pickle=False).astype(np.float64).ravel()
            if len(values) != 2 or not np.isfinite(values).all() or values[0] >= values[1]:
                raise UsageError(f"array {RANGE!r} must hold two numbers, black and white, as in [-1, 1]")
            how = replace(how, value_range=(float(values[0]), float(values[1])))
    return how
