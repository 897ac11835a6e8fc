"""Splits, hashes and names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_checks import DIGITS, MNIST, NOWHERE, parts, rows, targets, well_formed
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.gan import DataSpec
from bench.data import datasets
from bench.data.datasets import Dataset, Images, load, resolve
from bench.errors import UsageError

DIGITS_HOLDOUT = "78a26fc69340b958d6e6bbd7138b401313659832cf8e09cf541831526f80a6dd"
MNIST_HOLDOUT = "a011f63bf600c5a41734749982df278e0f3676d741d8df953f0aa3a1d41dfb0a"
MNIST_TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# ---------------------------------------------------------------- digits, splits, hashes


@pytest.mark.parametrize("holdout", [False, True])
def test_digits_are_scikit_learns_split_into_fixed_stratified_parts(holdout: bool) -> None:
    from sklearn.datasets import load_digits

    dataset = load("digits", data_root=NOWHERE, offline=True, holdout=holdout)
    well_formed(dataset)
    assert [len(part) for part in parts(dataset)] == ([1077, 360, 360] if holdout else [1437, 360])
    assert dataset.spec == DataSpec(1, 8, 8, n_classes=10)
    pixels, labels = load_digits(return_X_y=True)
    # Disjoint and complete: together they are the whole, each image as often as there.
    whole = Images(np.array([[[round(x * 255 / 16) for x in image]] for image in pixels], np.uint8), labels)
    assert rows(*parts(dataset)) == rows(whole)
    for part in parts(dataset):
        expected = np.bincount(labels) * len(part) / 1797
        assert np.abs(np.bincount(targets(part)) - expected).max() < 2
    assert dataset.sha256 == (DIGITS_HOLDOUT if holdout else DIGITS)


def test_test_split_is_the_same_with_and_without_holdout() -> None:
    plain, holdout = (load("digits", data_root=NOWHERE, holdout=h) for h in (False, True))
    assert (plain.test.images == holdout.test.images).all()
    assert holdout.val is not None
    assert rows(holdout.train, holdout.val) == rows(plain.train)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.floats(0.01, 0.9), st.booleans())
def test_a_split_is_disjoint_complete_and_stratified(sizes: list[int], share: float, labelled: bool) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes))
    n = max(1, int(share * len(labels)))
    identity = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    rest, chosen = datasets.split(Images(identity, labels if labelled else None), n)
    assert len(chosen) == n
    assert sorted([*rest.images.ravel(), *chosen.images.ravel()]) == list(range(len(labels)))
    if labelled:
        assert chosen.labels is not None
        counts = np.bincount(chosen.labels, minlength=len(sizes))
        assert np.abs(counts - np.array(sizes) * n / len(labels)).max() < 1
        assert (labels[chosen.images.ravel()] == chosen.labels).all()


def test_an_unlabelled_choice_is_spread_over_the_whole_order() -> None:
    identity = np.arange(200, dtype=np.uint8).reshape(-1, 1, 1, 1)
    _, chosen = datasets.split(Images(identity, None), 40)
    gaps = np.diff(chosen.images.ravel().astype(int))
    assert len(set(gaps.tolist())) > 5  # not every fifth
    assert np.bincount(chosen.images.ravel() // 50, minlength=4).min() >= 4


def test_the_hash_sees_every_pixel_label_and_split_and_nothing_else() -> None:
    dataset = load("digits", data_root=NOWHERE, holdout=True)
    train, val, test = parts(dataset)
    assert train.labels is not None
    same = Images(train.images.copy(), train.labels.astype(">i8"))
    assert datasets._sha256(train=same, val=val, test=test) == dataset.sha256

    pixel = train.images.copy()
    pixel[-1, 0, 7, 7] ^= 1
    label = train.labels.copy()
    label[0] = (label[0] + 1) % 10
    swapped = np.arange(len(train))
    swapped[[0, 1]] = [1, 0]
    others = {
        datasets._sha256(train=Images(pixel, train.labels), val=val, test=test),
        datasets._sha256(train=Images(train.images, label), val=val, test=test),
        datasets._sha256(train=Images(train.images, None), val=val, test=test),
        datasets._sha256(train=Images(train.images.reshape(-1, 1, 4, 16), train.labels), val=val, test=test),
        datasets._sha256(train=train[swapped], val=val, test=test),
        datasets._sha256(train=train, val=test, test=val),
        datasets._sha256(train=train, val=None, test=test),
        datasets._sha256(train=train[np.arange(1076)], val=val, test=test),
    }
    assert len(others | {dataset.sha256}) == 9


def test_a_record_describes_the_data() -> None:
    assert load("digits", data_root=NOWHERE, holdout=True).describe() == {
        "name": "digits",
        "sha256": DIGITS_HOLDOUT,
        "n_train": 1077,
        "n_val": 360,
        "n_test": 360,
        "n_classes": 10,
        "shape": [1, 8, 8],
    }


def test_importing_the_module_loads_no_framework() -> None:
    code = "import bench.data.datasets, sys; print(sorted({'torch', 'sklearn', 'PIL'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["mnst", "", "MNIST", "folder", "imagenet", "../digits"])
def test_unknown_names_are_refused_in_one_line(name: str) -> None:
    for ask in (
        lambda: resolve(name, data_root=NOWHERE, offline=True),
        lambda: load(name, data_root=NOWHERE, offline=True),
    ):
        with pytest.raises(UsageError) as error:
            ask()
        line = str(error.value)
        assert line.startswith(f"--dataset: {name!r} is not a data set; use auto, digits, mnist, ")
        assert "folder:PATH" in line
        assert ("did you mean 'mnist'?" in line) == (name in ("mnst", "MNIST"))


def test_known_names_stand_for_themselves() -> None:
    for name in (*datasets.NAMES, "folder:/some/where"):
        assert resolve(name, data_root=NOWHERE, offline=True) == (name, None)
    drawn = {"stacked-digits", "stacked-mnist", "ring", "grid"}
    assert {*datasets.NAMES} == {"digits", "mnist", "fashion-mnist", "kmnist", "cifar10", *drawn}


def test_default_steps() -> None:
    assert datasets.default_steps("digits") == 3_000
    assert {datasets.default_steps(name) for name in ("mnist", "cifar10", "folder:x")} == {30_000}


# ---------------------------------------------------------------- the real MNIST


@pytest.fixture(scope="module")
def mnist(mnist_root: Path) -> Dataset:
    return load("mnist", data_root=mnist_root, offline=True)


def test_mnist_is_the_official_one(mnist: Dataset) -> None:
    well_formed(mnist)
    assert mnist.train.images.shape == (60_000, 1, 28, 28)
    assert mnist.test.images.shape == (10_000, 1, 28, 28)
    assert mnist.val is None
    assert np.bincount(targets(mnist.train)).tolist() == MNIST_TRAIN_COUNTS
    assert np.bincount(targets(mnist.test)).tolist() == MNIST_TEST_COUNTS
    assert mnist.train.images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)  # as every tutorial has it
    assert mnist.sha256 == MNIST


@pytest.mark.slow
def test_mnist_holdout(mnist_root: Path, mnist: Dataset) -> None:
    dataset = load("mnist", data_root=mnist_root, offline=True, holdout=True)
    well_formed(dataset)
    assert [len(part) for part in parts(dataset)] == [50_000, 10_000, 10_000]
    assert rows(*parts(dataset)[:2]) == rows(mnist.train)
    assert (dataset.test.images == mnist.test.images).all()
    assert dataset.sha256 == MNIST_HOLDOUT


def test_auto_is_mnist_where_its_files_are(mnist_root: Path) -> None:
    name, why = resolve("auto", data_root=mnist_root, offline=True)
    assert name == "mnist"
    assert why is not None
    assert str(mnist_root) in why
    assert load("auto", data_root=mnist_root, offline=True).sha256 == MNIST
