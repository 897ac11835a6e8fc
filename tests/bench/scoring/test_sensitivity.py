"""What the scores see of real images that were changed in known ways, by each shipped classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.data import datasets
from bench.data.datasets import Dataset
from bench.scoring import fidelity, metrics
from bench.scoring.extractors import load_extractor
from bench.scoring.neighbours import Neighbours
from bench.scoring.sensitivity import changes, divided

Scores = Mapping[str, Mapping[str, float]]


def measured(dataset: Dataset, n: int, n_real: int) -> dict[str, dict[str, float]]:
    """Change -> FID, recall and modes by both judges: n training images against n_real test images."""
    extractor = load_extractor("classifier", dataset, cache=Path("unused"))
    judge = Neighbours(dataset, torch.device("cpu"))
    labels = dataset.test.labels
    assert labels is not None
    real = extractor(torch.from_numpy(dataset.test.images[:: len(labels) // n_real]))
    found = {}

    def fid_of(features: torch.Tensor) -> float:
        return fidelity.fid(fidelity.moments(features), fidelity.moments(real.features))

    for change, pixels in changes(*divided(dataset), n):
        images = torch.from_numpy(pixels)
        fake = extractor(images)
        balls = metrics._real_radii(real)
        _, recall = metrics._precision_recall_in_blocks(fake.features, real.features, balls)
        found[change] = {
            "fid": fid_of(fake.features),
            "recall": recall,
            **metrics.mode_coverage(fake.logits.argmax(1), labels, dataset.n_classes),
            **metrics.mode_coverage(judge(images), labels, dataset.n_classes, "_knn"),
        }
    more = dataset.train[np.arange(n + n // 4) % len(dataset.train)]
    features = extractor(torch.from_numpy(more.images)).features
    for k in range(dataset.n_classes):
        found[f"lost {k}"] = {"fid": fid_of(features[more.labels != k][:n])}
    return found


@pytest.fixture(scope="module")
def digits() -> Scores:
    return measured(datasets.load("digits", data_root=Path("unused")), 720, 360)


@pytest.fixture(scope="module")
def mnist(mnist_root: Path) -> Scores:
    return measured(datasets.load("mnist", data_root=mnist_root, offline=True), 1000, 1000)


@pytest.fixture(params=["digits", "mnist"], name="found", scope="module")
def of_each(request: pytest.FixtureRequest) -> Scores:
    scores: Scores = request.getfixturevalue(request.param)
    return scores


@pytest.mark.slow
def test_both_judges_count_the_classes_of_changed_images(found: Scores) -> None:
    expected = {"without class 0": 9, "without classes 0 to 2": 7}
    for change, scores in found.items():
        if change.startswith(("shift", "lost")):  # neighbours on pixels do not know a shifted digit
            continue
        assert scores["modes"] == scores["modes_knn"] == expected.get(change, 10), change
        if change not in expected and "repeated" not in change:
            assert scores["mode_kl"] < 0.02, change
            assert scores["mode_kl_knn"] < 0.02, change


@pytest.mark.slow
def test_losing_any_class_costs_more_than_slight_noise_or_blur(found: Scores) -> None:
    blur = next(change for change in found if change.startswith("blur"))
    slight = max(found[change]["fid"] for change in ("noise, σ = 16", blur))
    assert all(found[f"lost {k}"]["fid"] > 2 * slight for k in range(10))


@pytest.mark.slow
def test_shifts_lost_classes_and_repeated_images_are_seen(found: Scores) -> None:
    nothing = found["nothing"]
    furthest = [change for change in found if change.startswith("shift")][-1]
    for change in (furthest, "without class 0", "without classes 0 to 2", "100 images, repeated"):
        assert found[change]["fid"] > 2 * nothing["fid"], change
    assert found["100 images, repeated"]["recall"] < 0.5 * nothing["recall"]


def test_changes_are_of_the_same_images() -> None:
    dataset = datasets.load("digits", data_root=Path("unused"))
    trained, fresh = divided(dataset)
    made = dict(changes(trained, fresh, 20))
    nothing = made["nothing"].astype(int)
    assert len(made) == 14
    assert len(trained.train) + len(fresh) == len(dataset.train)
    held = {image.tobytes() for image in trained.train.images}
    shares = {"nothing": 0.0, "50 % copies of training images": 0.5, "all copies of training images": 1.0}
    for change, share in shares.items():
        assert np.mean([image.tobytes() in held for image in made[change]]) == share
    assert all(pixels.shape == (20, 1, 8, 8) and pixels.dtype == np.uint8 for pixels in made.values())
    assert 5 < np.abs(made["noise, σ = 32"] - nothing).mean() < 30
    assert np.abs(made["darker, × 0.75"] - 0.75 * nothing).max() <= 0.5
    assert np.array_equal(made["shift, 1 pixel"][..., 1:], nothing[..., :-1])
    assert made["blur, 0.6 pixels"].var() < made["blur, 0.4 pixels"].var() < nothing.var()
