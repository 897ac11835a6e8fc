"""The second judge of classes: nearest neighbours on pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.data import datasets
from bench.data.datasets import Dataset, Images
from bench.scoring import neighbours
from bench.scoring.neighbours import Neighbours

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return datasets.load("digits", data_root=Path("unused"))


@pytest.fixture(scope="module")
def judge(digits: Dataset) -> Neighbours:
    return Neighbours(digits, CPU)


@pytest.fixture(scope="module")
def images(digits: Dataset) -> Tensor:
    return torch.from_numpy(digits.test.images)


def test_it_knows_the_digits(digits: Dataset, judge: Neighbours, images: Tensor) -> None:
    assert digits.test.labels is not None
    assert np.mean(judge(images).numpy() == digits.test.labels) > 0.98


def test_brightness_contrast_and_the_batch_change_nothing(judge: Neighbours, images: Tensor) -> None:
    even = images // 4 * 4
    assert torch.equal(judge(even), judge(even // 4 + 100))
    assert torch.equal(judge(images)[:7], judge(images[:7]))


def of_few(*labels: int) -> Neighbours:
    """Of three images that are less and less like a bright left half."""
    images = np.zeros((3, 1, 8, 8), dtype=np.uint8)
    for k in range(3):
        images[k, 0, :, : 4 + k] = 200
    split = Images(images, np.array(labels))
    return Neighbours(Dataset("few", split, None, split, 3, "7" * 64), CPU)


@pytest.mark.parametrize(("labels", "expected"), [((2, 1, 1), 1), ((2, 1, 0), 2), ((1, 1, 0), 1)])
def test_two_of_three_win_and_else_the_nearest(labels: tuple[int, ...], expected: int) -> None:
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    image[..., :4] = 90
    assert of_few(*labels)(image).tolist() == [expected]


def test_it_compares_with_equally_many_of_each_class(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "REFERENCES", 200)
    chosen = Neighbours(digits, CPU)
    assert torch.bincount(chosen.labels).tolist() == [20] * 10
    other = replace(digits, test=Images(255 - digits.test.images, digits.test.labels))
    assert torch.equal(chosen.references, Neighbours(other, CPU).references), "training images alone"


@pytest.mark.slow
def test_it_knows_the_digits_of_mnist(mnist_root: Path) -> None:
    mnist = datasets.load("mnist", data_root=mnist_root, offline=True)
    assert mnist.test.labels is not None
    found = Neighbours(mnist, CPU)(torch.from_numpy(mnist.test.images[::5]))
    assert np.mean(found.numpy() == mnist.test.labels[::5]) > 0.96


def test_images_without_any_contrast_are_of_one_class(judge: Neighbours) -> None:
    assert len(judge(torch.full((5, 1, 8, 8), 3, dtype=torch.uint8)).unique()) == 1
