"""What the tests of the extractors share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.data.datasets import Dataset, Images
from bench.scoring import classifier, fitting
from bench.scoring.features import Features


def stripes() -> Dataset:
    """Two classes that are easy to tell apart: 3x8x12, bright at the top or bright on the left."""
    rng = np.random.RandomState(0)

    def split(n: int) -> Images:
        labels = np.arange(n) % 2
        images = rng.randint(0, 100, (n, 3, 8, 12)).astype(np.uint8)
        images[labels == 0, :, :4] += 150
        images[labels == 1, :, :, :6] += 150
        return Images(images, labels.astype(np.int64))

    return Dataset("stripes", split(64), None, split(32), 2, sha256="5" * 64)


def pixels(n: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def close(one: Features, other: Features) -> bool:
    return torch.allclose(one.features, other.features, rtol=1e-4, atol=1e-5) and torch.allclose(
        one.logits, other.logits, rtol=1e-4, atol=1e-4
    )


def train_quickly(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trainings take 30 steps from now on. The list gets the names of the data sets that are trained on."""
    trained: list[str] = []
    train, fit = classifier.train, classifier.fit

    def train_quickly(dataset: Dataset) -> dict[str, Tensor]:
        trained.append(dataset.name)
        return train(dataset, steps=30)

    def fit_quickly(dataset: Dataset, checkpoint: Path | None = None) -> tuple[dict[str, Tensor], int]:
        trained.append(dataset.name)
        return fit(dataset, checkpoint)

    monkeypatch.setattr(classifier, "train", train_quickly)
    monkeypatch.setattr(classifier, "fit", fit_quickly)
    monkeypatch.setattr(fitting, "MOST_STEPS", 30)
    return trained


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 16
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])
