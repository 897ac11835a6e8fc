"""Data sets with fixed splits: what the models are trained on and scored against.

The split is part of the data: official where there is an official one, else a fixed random
choice. Every data set carries a hash of its content, so that two records that name the same
hash were measured on the same pixels, labels and splits, wherever they were computed.

Letters beside arrays: N images, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.data.folder import read_folder
from bench.data.torchvision_sets import CLASSES, read_torchvision
from bench.errors import UsageError, nearest

if TYPE_CHECKING:
    from baselines.gan import DataSpec

NAMES = ("digits", *CLASSES)
"""The data sets by name. Beside them, ``folder:PATH``, and ``auto``, which :func:`resolve` turns into one."""

FOLDER = "folder-"
"""What the name of a folder's data set begins with, in records."""

DEFAULT_STEPS: Mapping[str, int] = {"digits": 3_000} | dict.fromkeys(CLASSES, 30_000)
MAX_TEST = 10_000
SPLIT_SEED = 0


@dataclass(frozen=True, eq=False)
class Images:
    """Images (N, C, H, W) uint8 and their labels (N,) int64, counted from 0; ``None``: no labels."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: NDArray[np.intp]) -> Images:
        return Images(self.images[index], None if self.labels is None else self.labels[index])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split. ``val`` is there only where it was asked for; it was then taken out of ``train``."""

    name: str
    """One of :data:`NAMES`. That of a folder ends in eight digits of a hash of its images and labels, so
    that the same images are the same data set wherever they lie."""
    train: Images
    val: Images | None
    test: Images
    n_classes: int
    """0 where there are no labels."""
    sha256: str
    """Of shapes, pixels, labels and splits, not of the name."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, c, h, w = self.train.images.shape
        return c, h, w

    @property
    def spec(self) -> DataSpec:
        """What a model is told."""
        from baselines.gan import DataSpec

        return DataSpec(*self.shape, n_classes=self.n_classes)

    def content_sha256(self) -> str:
        """The hash of what is in memory now: ``sha256``, unless somebody changed it."""
        return _sha256(train=self.train, val=self.val, test=self.test)

    def describe(self) -> dict[str, Any]:
        """What a record says of the data."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "n_train": len(self.train),
            "n_val": 0 if self.val is None else len(self.val),
            "n_test": len(self.test),
            "n_classes": self.n_classes,
            "shape": list(self.shape),
        }


def default_steps(name: str) -> int:
    """Training iterations where none are asked for."""
    return DEFAULT_STEPS.get(name, 30_000)


def resolve(name: str, *, data_root: Path, offline: bool) -> tuple[str, str | None]:
    """What :func:`load` is to be given and, for ``auto``, a sentence that says why.

    ``auto`` is MNIST where its files are in ``data_root`` or can be downloaded to it, else digits.
    A folder's path becomes absolute, so that it means the same in any process. UsageError where there is
    no such data set.
    """
    if name == "auto":
        try:
            load("mnist", data_root=data_root, offline=offline)
        except UsageError as error:
            why = str(error).removeprefix("--dataset 'mnist': ")
            return "digits", f"--dataset auto is digits here, because MNIST cannot be had: {why}"
        return "mnist", f"--dataset auto is MNIST here, from {data_root}"
    if name.startswith("folder:"):
        path = name.removeprefix("folder:")
        usable = path and "\0" not in path  # what is none is refused when it is read
        return f"folder:{os.path.realpath(path)}" if usable else name, None
    if name not in NAMES:
        options = ("auto", *NAMES)
        hint = "; a folder is named by its path" if name.startswith(FOLDER) else nearest(name, options)
        raise UsageError(
            f"--dataset: {name!r} is not a data set; use {', '.join(options)} or folder:PATH{hint}"
        )
    return name, None


def load(name: str, *, data_root: Path, offline: bool = False, holdout: bool = False) -> Dataset:
    """Load a data set with its fixed splits.

    ``holdout`` takes a validation split as large as the test split out of the training split: what
    is chosen by looking at scores (a hyperparameter, a step) is chosen there. UsageError, one line,
    where the data is missing, damaged or cannot be used.
    """
    asked, _ = resolve(name, data_root=data_root, offline=offline)
    try:
        name, train, test = _read(asked, data_root, offline)
    except UsageError as error:
        raise UsageError(f"--dataset {asked!r}: {error}") from error
    except (OSError, MemoryError) as error:
        raise UsageError(f"--dataset {asked!r}: cannot be read: {error}") from error
    n_classes = max(0 if part.labels is None else 1 + int(part.labels.max()) for part in (train, test))
    val = None
    if holdout:
        train, val = _split(train, len(test))
    return Dataset(name, train, val, test, n_classes, _sha256(train=train, val=val, test=test))


def _read(asked: str, data_root: Path, offline: bool) -> tuple[str, Images, Images]:
    """(name, train, test)."""
    if asked in CLASSES:
        train, test = read_torchvision(asked, data_root, offline=offline)
        return asked, Images(*train), Images(*test)
    if asked == "digits":
        name, everything = asked, _digits()
    else:
        everything = Images(*read_folder(asked.removeprefix("folder:")))
        name = f"{FOLDER}{_sha256(all=everything)[:8]}"
    return name, *_split(everything, min(MAX_TEST, -(-len(everything) // 5)))


def _split(images: Images, n: int) -> tuple[Images, Images]:
    """(the others, n images): a fixed random choice in which each class has its share, rounded up or down."""
    # NumPy promises that this stream never changes, which it does not of its newer generators.
    order = np.random.RandomState(SPLIT_SEED).permutation(len(images))
    if images.labels is not None:
        order = order[np.argsort(images.labels[order], kind="stable")]
    # Evenly spaced places in a shuffled list that is grouped by class.
    chosen = np.zeros(len(images), dtype=bool)
    chosen[order[(2 * np.arange(n) + 1) * len(images) // (2 * n)]] = True
    return images[np.flatnonzero(~chosen)], images[np.flatnonzero(chosen)]


def _sha256(**splits: Images | None) -> str:
    digest = hashlib.sha256()
    for name, split in splits.items():
        if split is not None:
            digest.update(f"{name} {split.images.shape} {split.labels is not None}\n".encode())
            digest.update(split.images.data)
            if split.labels is not None:
                digest.update(split.labels.astype("<i8").data)  # the same bytes on any machine
    return digest.hexdigest()


def _digits() -> Images:
    """scikit-learn's embedded copy of the UCI handwritten digits: 1,797 of 8x8 pixels, 0..16."""
    package = find_spec("sklearn")  # found, not imported, which takes 0.9 s in every process
    assert package is not None
    assert package.origin is not None
    table = np.loadtxt(Path(package.origin).with_name("datasets") / "data" / "digits.csv.gz", delimiter=",")
    images = np.rint(table[:, :-1] * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    return Images(images, table[:, -1].astype(np.int64))
