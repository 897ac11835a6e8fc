"""The networks of extractors that were trained here: where their weights lie, and what is on record of them.

A plan reads this file, so it imports no PyTorch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.data.datasets import Dataset
from bench.errors import UsageError
from bench.identity import fingerprint
from bench.store import cache as entries

SHIPPED = Path(__file__).parent / "weights"
CLASSIFIER, GENERIC = "classifier", "generic"
SHIPPED_NAMES = ("digits", "mnist")
"""The data sets whose classifiers come with the package."""

FEATURE_DIM = 64

CODE = ("bench.scoring.classifier", "bench.scoring.fitting")
"""What trains classifiers."""


def refuse_unlabelled(dataset: Dataset) -> None:
    """Raise a UsageError if the data set has no labels."""
    if not dataset.n_classes:
        raise UsageError(
            f"--features classifier: data set {dataset.name!r} has no labels to learn from; "
            "use --features generic"
        )


def refuse_channels(dataset: Dataset) -> None:
    """Raise a UsageError if the generic extractor cannot take the images."""
    if dataset.shape[0] not in (1, 3):
        raise UsageError(
            f"--features {GENERIC}: takes images of 1 or 3 channels; those of {dataset.name!r} have "
            f"{dataset.shape[0]}"
        )


def own_folder(dataset: Dataset, cache: Path) -> Path:
    """Where the classifier of a data set is kept that has none in the package."""
    code = "-".join(map(fingerprint.module_code, CODE))
    return cache / "classifiers" / f"{dataset.sha256[:16]}-{code}"


def record(name: str, dataset: Dataset, cache: Path) -> dict[str, Any] | None:
    """What is on record of the extractor ``name`` for a data set, whose weights are checked.

    ``None``: it is not one of these, or its weights do not exist yet or are damaged.

    Raises:
        UsageError: it does not take these images.
    """
    if name == CLASSIFIER:
        refuse_unlabelled(dataset)
        shipped = dataset.name in SHIPPED_NAMES
        stem = SHIPPED / dataset.name if shipped else own_folder(dataset, cache) / "tensors"
    elif name == GENERIC:
        refuse_channels(dataset)
        stem = SHIPPED / GENERIC
    else:
        return None
    try:
        return entries.read_record(stem) | ({"logits": False} if name == GENERIC else {})
    except (entries.DamagedError, OSError):
        return None
