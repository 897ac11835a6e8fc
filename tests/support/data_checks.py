"""What the tests of the data share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.data.datasets import Dataset, Images, load
from bench.errors import UsageError

NOWHERE = Path("nowhere")
"""A data root that holds nothing, and is not needed."""
DIGITS = "d493ab453f6da25bf77a87d593ea8583506c7b0b124ab272760f916a2cb8428b"
MNIST = "dbc4656a82fd486e53c94d4772ae98d0459d143f35ad577325d661f8e667af48"


def parts(dataset: Dataset) -> list[Images]:
    return [part for part in (dataset.train, dataset.val, dataset.test) if part is not None]


def rows(*some: Images) -> list[tuple[int, bytes]]:
    """Label and pixels of each image, sorted: two collections of the same images give the same rows."""
    return sorted(
        (int(y), x.tobytes()) for part in some for x, y in zip(part.images, targets(part), strict=True)
    )


def targets(part: Images) -> NDArray[np.int64]:
    assert part.labels is not None
    return part.labels


def well_formed(dataset: Dataset) -> None:
    for part in parts(dataset):
        assert part.images.dtype == np.uint8
        assert part.images.flags.c_contiguous
        assert part.images.shape[1:] == dataset.shape
        if dataset.n_classes:
            assert part.labels is not None
            assert part.labels.dtype == np.int64
            assert part.labels.shape == (len(part),)
            assert part.labels.min() >= 0
            assert part.labels.max() < dataset.n_classes
        else:
            assert part.labels is None


def refused(name: str, root: Path, *, offline: bool = True) -> str:
    """The one line that refuses to load."""
    with pytest.raises(UsageError) as error:
        load(name, data_root=root, offline=offline)
    line = str(error.value)
    assert line.startswith(f"--dataset {name!r}: ")
    assert "\n" not in line
    return line


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds
