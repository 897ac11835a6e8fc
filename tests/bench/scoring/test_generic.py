"""The network for any small images: what it takes, how it was made, and how its FID orders changes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from extractor_checks import pixels
from scipy.stats import spearmanr

from bench.data import datasets
from bench.data.datasets import Dataset, Images
from bench.errors import UsageError
from bench.scoring import drawn, extractors, fidelity, kept
from bench.scoring.extractors import load_extractor
from bench.scoring.features import Extractor
from bench.scoring.sensitivity import changes, divided

NOWHERE = Path("unused")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return datasets.load("digits", data_root=NOWHERE)


def of_shape(shape: tuple[int, int, int]) -> Dataset:
    part = Images(np.zeros((20, *shape), np.uint8), None)
    return Dataset("folder-00000000", part, None, part, 0, "0" * 64)


def test_shipped_weights_are_small_whole_and_tell_how_they_were_made(digits: Dataset) -> None:
    weights = kept.SHIPPED / "generic.safetensors"
    record = json.loads(weights.with_suffix(".json").read_text())
    assert weights.stat().st_size < 2_000_000
    assert record["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert record["command"] == "python -m bench.features train --features generic"
    assert (record["dataset"], record["feature_dim"]) == ("drawn", 64)
    assert record["accuracy"] > 0.9
    described = extractors.describe("generic", digits, train=False, cache=NOWHERE)
    assert described == {"sha256": record["sha256"], "feature_dim": 64, "logits": False}


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 64, 64), (1, 5, 6), (3, 28, 40)])
def test_it_takes_any_small_images(shape: tuple[int, int, int]) -> None:
    extractor = load_extractor("generic", of_shape(shape), cache=NOWHERE)
    images = pixels(12, *shape)
    found = extractor(images)
    assert found.features.shape == (12, 64)
    assert found.logits is None
    assert torch.allclose(found.features, extractor(images, batch_size=5).features, atol=1e-4)
    if shape[0] == 1:
        in_colour = extractor(images.expand(-1, 3, -1, -1))
        assert torch.allclose(found.features, in_colour.features, atol=1e-4)


def test_other_channels_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--features generic: takes images of 1 or 3 channels; .* have 4"):
        load_extractor("generic", of_shape((4, 8, 8)), cache=NOWHERE)


def test_auto_is_the_classifier_where_there_are_labels(digits: Dataset) -> None:
    assert extractors.resolve(["auto"], digits) == (["classifier"], None)
    assert extractors.resolve(["auto", "classifier"], digits) == (["classifier"], None)
    names, why = extractors.resolve(["auto"], replace(digits, n_classes=0))
    assert names == ["generic"]
    assert why == "--features auto is generic here, because digits has no labels"


def test_the_drawings_are_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn, "N_CLASSES", 6)
    monkeypatch.setattr(drawn, "N_TRAIN", 4)
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    one, again = drawn.dataset(), drawn.dataset()
    assert one.sha256 == again.sha256
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]
    assert one.train.images.shape == (24, 3, 32, 32)
    assert one.train.images.dtype == np.uint8
    assert one.train.labels is not None
    assert np.bincount(one.train.labels).tolist() == [4] * 6
    assert len({image.tobytes() for image in one.train.images}) == 24


def fids(dataset: Dataset, n: int, n_real: int) -> dict[str, list[float]]:
    """Change -> FID on the classifier and on the generic network: n training images against n_real others."""
    judges = [load_extractor(name, dataset, cache=NOWHERE) for name in ("classifier", "generic")]
    trained, fresh = divided(dataset)
    reals = [torch.from_numpy(dataset.test.images[:: len(dataset.test) // n_real]) for _ in judges]

    def moments(judge: Extractor, images: torch.Tensor) -> object:
        return fidelity.moments(judge(images).features)

    real = [moments(judge, images) for judge, images in zip(judges, reals, strict=True)]
    return {
        change: [
            fidelity.fid(moments(judge, torch.from_numpy(images)), each)
            for judge, each in zip(judges, real, strict=True)
        ]
        for change, images in changes(trained, fresh, n)
    }


@pytest.mark.slow
@pytest.mark.parametrize(("name", "at_least"), [("digits", 0.8), ("mnist", 0.7)])
def test_its_fid_orders_changes_as_the_classifiers_does(
    name: str, at_least: float, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue("mnist_root") if name == "mnist" else NOWHERE
    dataset = datasets.load(name, data_root=root, offline=True)
    found = fids(dataset, 1000, 500 if name == "mnist" else 360)
    values = np.array(list(found.values()))
    assert spearmanr(values[:, 0], values[:, 1]).statistic >= at_least
    nothing = found["nothing"][1]
    for change, (_, fid) in found.items():
        if change.startswith(("without", "blur", "100 images", "shift")):
            assert fid > nothing, change
    assert found["without classes 0 to 2"][1] > found["without class 0"][1] > found["noise, σ = 16"][1]
