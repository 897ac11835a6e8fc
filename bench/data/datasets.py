"""Data sets with fixed splits: what models are trained on and scored against.

The split is part of the data: the official one where there is one, otherwise a fixed random choice. Every
data set has a hash of its content. Two records with the same hash were measured on the same pixels, labels
and splits.

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

from bench.data.array_set import read_array_set
from bench.data.folder import read_folder
from bench.data.own_dataset import read_own
from bench.data.points import MIXTURES, read_points
from bench.data.resizing import square
from bench.data.stacked import STACKED, balanced, stack
from bench.data.torchvision_sets import CLASSES, provide, read_torchvision
from bench.errors import UsageError, nearest
from bench.identity import outside

if TYPE_CHECKING:
    from baselines.gan import DataSpec

NAMES = ("digits", *CLASSES, *STACKED, *MIXTURES)
"""The data sets by name. There are also ``folder:PATH`` and ``array:FILE``, and ``auto``, for which
:func:`resolve` chooses a name."""

LABELLED = ("digits", *CLASSES)
"""Those with labels."""

KINDS = ("folder", "array")
"""Data of the user's own. ``folder@64:PATH`` resizes its images to 64x64 pixels."""

SIDES = (8, 1024)
"""The smallest and the largest size that images are resized to."""

FOLDER = "folder-"
"""In records, names of data sets that come from folders begin with this."""

DEFAULT_STEPS: Mapping[str, int] = {
    "digits": 3_000,
    **dict.fromkeys((*CLASSES, *STACKED), 30_000),
    "ring": 4_000,
    "grid": 10_000,
}
MAX_TEST = 10_000
SPLIT_SEED = 0


@dataclass(frozen=True, eq=False)
class Images:
    """Images (N, C, H, W) uint8, or points (N, 2, 1, 1) float32; labels (N,) int64, from 0, or ``None``."""

    images: NDArray[Any]
    labels: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: NDArray[np.intp]) -> Images:
        return Images(self.images[index], None if self.labels is None else self.labels[index])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in splits. ``val`` exists only where it was asked for; it is then taken out of ``train``."""

    name: str
    """One of :data:`NAMES`; or, for a folder or an array, ``folder-`` or ``array-`` and eight digits of a
    hash of its images and labels, so that the same images are the same data set in any place; or, for a
    user's own, its ``module:function`` or the name of its entry point."""
    train: Images
    val: Images | None
    test: Images
    n_classes: int
    """0 without labels."""
    sha256: str
    """The hash of shapes, pixels, labels and splits, but not of the name."""
    channels: Dataset | None = None
    """Of ``stacked-mnist`` and the like: the data set that the channels come from. ``train`` then holds its
    images, of which training draws one for each channel, and the other splits hold stacks."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, c, h, w = self.test.images.shape
        return c, h, w

    @property
    def per_example(self) -> int:
        """How many images of ``train`` are drawn for one example: one, or one for each channel."""
        return self.shape[0] // int(self.train.images.shape[1])

    def examples(self, index: NDArray[np.int64]) -> Images:
        """Training examples at ``index`` (M,), or (M, C) where each channel is drawn on its own."""
        if self.channels is None:
            return self.train[index]
        return Images(stack(self.train.images, index), None)

    def drawn(self, n: int, k: int) -> Images:
        """The k-th draw of n training examples of a data set whose channels are drawn each on its own."""
        generator = np.random.Generator(np.random.PCG64(k))
        return self.examples(generator.integers(len(self.train), size=(n, self.per_example)))

    @property
    def spec(self) -> DataSpec:
        """What a model's factory is given."""
        return spec_of(self.describe())

    @property
    def points(self) -> bool:
        """Whether these are points in the plane: :mod:`bench.data.points`."""
        return bool(self.train.images.dtype == np.float32)

    def content_sha256(self) -> str:
        """The hash of what is in memory now. It differs from ``sha256`` if something has changed the data."""
        return _sha256(train=self.train, val=self.val, test=self.test)

    def describe(self) -> dict[str, Any]:
        """What a record says about the data."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "n_train": len(self.train),
            "n_val": 0 if self.val is None else len(self.val),
            "n_test": len(self.test),
            "n_classes": self.n_classes,
            "shape": list(self.shape),
            **({"points": True} if self.points else {}),
            **({} if self.channels is None else {"channels": self.channels.name}),
        }


def spec_of(described: Mapping[str, Any]) -> DataSpec:
    """What a model's factory is given, from what a record says: :meth:`Dataset.describe`."""
    from baselines.gan import DataSpec

    channels, height, width = described["shape"]
    return DataSpec(channels, height, width, described["n_classes"], described.get("points", False))


def default_steps(name: str) -> int:
    """The default number of training iterations."""
    return DEFAULT_STEPS.get(name, 30_000)


def n_evals(name: str) -> int:
    """The default number of evaluations along training: of points more, for the film of their training."""
    return 40 if name in MIXTURES else 10


def resolve(name: str, *, data_root: Path, offline: bool) -> tuple[str, str | None]:
    """The name to give to :func:`load` and, for ``auto``, a sentence that reports the choice, and why.

    ``auto`` is MNIST where its files are in ``data_root`` or can be downloaded there, otherwise digits. The
    files are checked but not decoded. The path of a folder or an array becomes absolute, so that it has the
    same meaning in any process.

    Raises:
        UsageError: there is no such data set.
    """
    if name == "auto":
        try:
            provide("mnist", data_root, offline=offline)
        except (UsageError, OSError, MemoryError) as error:
            return "digits", f"--dataset auto is digits here, because MNIST is not available: {error}"
        return "mnist", f"--dataset auto is MNIST here, from {data_root}"
    if own := _own(name):
        path = own[2]
        usable = path and "\0" not in path  # other paths are refused when they are read
        return f"{name.partition(':')[0]}:{os.path.realpath(path)}" if usable else name, None
    if name not in NAMES and outside.location("--dataset", name) is None:
        options = ("auto", *NAMES, *outside.names("--dataset"))
        hint = "; a folder is named by its path" if name.startswith(FOLDER) else nearest(name, options)
        others = "folder:PATH, array:FILE or module:function"
        raise UsageError(f"--dataset: {name!r} is not a data set; use {', '.join(options)}, {others}{hint}")
    return name, None


def load(name: str, *, data_root: Path, offline: bool = False, holdout: bool = False) -> Dataset:
    """Load a data set with its fixed splits.

    ``holdout`` takes a validation split, as large as the test split, out of the training split. Whatever is
    chosen by scores (a hyperparameter, a step) is chosen on it.

    Raises:
        UsageError: the data is missing, damaged or cannot be used. The message is one line.
    """
    asked, _ = resolve(name, data_root=data_root, offline=offline)
    if asked in STACKED:
        return _stacked(asked, load(STACKED[asked], data_root=data_root, offline=offline, holdout=holdout))
    try:
        name, train, test = _read(asked, data_root, offline)
    except UsageError as error:
        raise UsageError(f"--dataset {asked!r}: {error}") from error
    except (OSError, MemoryError) as error:
        raise UsageError(f"--dataset {asked!r}: cannot be read: {error}") from error
    n_classes = max(0 if part.labels is None else 1 + int(part.labels.max()) for part in (train, test))
    val = None
    if holdout:
        train, val = split(train, len(test))
    return Dataset(name, train, val, test, n_classes, _sha256(train=train, val=val, test=test))


def _read(asked: str, data_root: Path, offline: bool) -> tuple[str, Images, Images]:
    """(name, train, test)."""
    if asked in CLASSES:
        train, test = read_torchvision(asked, data_root, offline=offline)
        return asked, Images(*train), Images(*test)
    if asked in MIXTURES:
        points = read_points(asked)
        return asked, Images(points[0], None), Images(points[1], None)
    if asked == "digits":
        name, everything = asked, _digits()
    elif (own := _own(asked)) is None:
        parts = [Images(*part) for part in read_own(asked, data_root)]
        if len(parts) == 2:
            return asked, parts[0], parts[1]
        name, everything = asked, parts[0]
    else:
        kind, side, path = own
        everything = _read_own(kind, side, path)
        name = f"{kind}-{_sha256(all=everything)[:8]}"
    return name, *split(everything, min(MAX_TEST, -(-len(everything) // 5)))


def _stacked(name: str, channels: Dataset) -> Dataset:
    """The data set whose channels are drawn from another one. It has no labels: models are given none."""

    def reference(split: Images) -> Images:
        assert split.labels is not None
        return Images(stack(split.images, balanced(split.labels)), None)

    train, test = Images(channels.train.images, None), reference(channels.test)
    val = None if channels.val is None else reference(channels.val)
    return Dataset(name, train, val, test, 0, _sha256(train=train, val=val, test=test), channels)


def with_size(name: str, side: int) -> str:
    """The name of a folder or an array, with the size that its images are resized to.

    Raises:
        UsageError: it is another data set, or names a size already.
    """
    kind, _, path = name.partition(":")
    if not path or kind not in KINDS:
        raise UsageError(f"--image-size: {name!r} has its own size; it is for folder:PATH and array:FILE")
    return f"{kind}@{side}:{path}"


def _own(name: str) -> tuple[str, int | None, str] | None:
    """Kind, size and path of a data set of the user's own; None for another data set.

    Raises:
        UsageError: the size is not possible.
    """
    before, colon, path = name.partition(":")
    kind, at, size = before.partition("@")
    if not colon or kind not in KINDS:
        return None
    if not at:
        return kind, None, path
    if not size.isdecimal() or not SIDES[0] <= int(size) <= SIDES[1]:
        raise UsageError(f"--dataset: {name!r}: the size {size!r} is not from {SIDES[0]} to {SIDES[1]}")
    return kind, int(size), path


def _read_own(kind: str, side: int | None, path: str) -> Images:
    if kind == "folder":
        return Images(*read_folder(path, side))
    images, labels = read_array_set(path)
    if side is not None:
        images = np.ascontiguousarray([square(image, side) for image in images])
    return Images(images, labels)


def split(images: Images, n: int) -> tuple[Images, Images]:
    """(all others, ``n`` images). The choice is random but fixed; it keeps the proportions of the classes."""
    # NumPy promises that this stream never changes. It does not promise this of its newer generators.
    order = np.random.RandomState(SPLIT_SEED).permutation(len(images))
    if images.labels is not None:
        order = order[np.argsort(images.labels[order], kind="stable")]
    # Every (N / n)-th of a list that is grouped by class and shuffled within each class.
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
