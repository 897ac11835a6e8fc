"""The classifiers: what they compute, where their weights come from, what is kept and what is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from extractor_checks import close, flip_a_bit, pixels, stripes, train_quickly
from torch import Tensor

from bench.data import datasets
from bench.data.datasets import Dataset, Images
from bench.errors import UsageError
from bench.scoring import classifier, extractors, kept
from bench.scoring.extractors import load_extractor
from bench.scoring.features import Extractor, Features
from bench.store import cache


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return datasets.load("digits", data_root=Path("unused"))


@pytest.fixture(scope="module")
def shipped(digits: Dataset) -> Extractor:
    return load_extractor("classifier", digits, cache=Path("unused"))


@pytest.fixture(name="stripes")
def striped() -> Dataset:
    return stripes()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trainings take 30 steps; lists the data sets that were trained on."""
    return train_quickly(monkeypatch)


# ---------------------------------------------------------------- the shipped classifiers


@pytest.mark.parametrize(("name", "accuracy"), [("digits", 0.985), ("mnist", 0.993)])
def test_shipped_weights_are_small_whole_and_tell_how_they_were_made(name: str, accuracy: float) -> None:
    weights = kept.SHIPPED / f"{name}.safetensors"
    record = json.loads(weights.with_suffix(".json").read_text())
    assert weights.stat().st_size < 1_000_000
    assert record["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert record["command"] == f"python -m bench.features train --dataset {name}"
    assert record["feature_dim"] == 64
    assert record["accuracy"] >= accuracy
    assert set(record["versions"]) == {"python", "torch", "numpy"}


def share_right(extractor: Extractor, images: Images) -> float:
    logits = extractor(torch.from_numpy(images.images)).logits
    assert images.labels is not None
    return float(np.mean(logits.argmax(dim=1).numpy() == images.labels))


def test_the_digits_classifier_is_as_accurate_as_recorded(digits: Dataset, shipped: Extractor) -> None:
    assert share_right(shipped, digits.test) == pytest.approx(shipped.info["accuracy"], abs=1 / 360)
    assert shipped.info["dataset_sha256"] == digits.sha256


@pytest.mark.slow
def test_the_mnist_classifier_is_as_accurate_as_recorded(mnist_root: Path) -> None:
    mnist = datasets.load("mnist", data_root=mnist_root, offline=True)
    extractor = load_extractor("classifier", mnist, cache=Path("unused"))
    assert share_right(extractor, mnist.test) == pytest.approx(extractor.info["accuracy"], abs=3e-4)
    assert extractor.info["dataset_sha256"] == mnist.sha256


def test_the_weights_are_part_of_the_protocol(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So scores of two versions of the weights never share a table."""

    def described() -> dict[str, Any]:
        return extractors.describe("classifier", digits, train=False, cache=tmp_path)

    tensors, record = cache.read(kept.SHIPPED / "digits")
    assert described() == {"sha256": record["sha256"], "feature_dim": 64}
    monkeypatch.setattr(kept, "SHIPPED", tmp_path)
    cache.write(tmp_path / "digits", {**tensors, "head.bias": tensors["head.bias"] + 1}, record)
    assert described()["sha256"] != record["sha256"]


def test_features_are_what_the_last_layer_sees(shipped: Extractor, digits: Dataset) -> None:
    images = torch.from_numpy(digits.test.images)
    result = shipped(images)
    tensors, _ = cache.read(kept.SHIPPED / "digits")
    assert result.features.shape == (360, 64)
    assert result.logits.shape == (360, 10)
    assert result.features.dtype == result.logits.dtype == torch.float32
    expected = result.features @ tensors["head.weight"].T + tensors["head.bias"]
    assert torch.allclose(result.logits, expected, atol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_features_do_not_depend_on_the_batch(shipped: Extractor, digits: Dataset, batch_size: int) -> None:
    images = torch.from_numpy(digits.test.images[:60])
    assert close(shipped(images), shipped(images, batch_size))
    assert close(shipped(images.flip(0)), Features(*(part.flip(0) for part in parts(shipped(images)))))


def parts(result: Features) -> tuple[Tensor, Tensor]:
    return result.features, result.logits


def test_a_damaged_shipped_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits: Dataset
) -> None:
    original = kept.SHIPPED
    monkeypatch.setattr(kept, "SHIPPED", tmp_path)
    with pytest.raises(UsageError, match="install it again"):
        load_extractor("classifier", digits, cache=tmp_path)
    for suffix in (".safetensors", ".json"):
        data = (original / f"digits{suffix}").read_bytes()
        (tmp_path / f"digits{suffix}").write_bytes(data.replace(b"\x00", b"\x01", 1))
    with pytest.raises(UsageError, match="damaged"):
        load_extractor("classifier", digits, cache=tmp_path)


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8), pixels(0, 1, 8, 8)]
)
def test_what_is_not_a_stack_of_uint8_images_is_refused(shipped: Extractor, images: Tensor) -> None:
    with pytest.raises(ValueError, match="uint8"):
        shipped(images)


# ---------------------------------------------------------------- classifiers of other data


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (4, 9, 17)])
def test_the_network_takes_any_shape(shape: tuple[int, int, int]) -> None:
    net = classifier.network(shape, 7).eval()
    assert net(classifier.scaled(pixels(2, *shape))).shape == (2, 7)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 40)])
def test_training_images_are_changed_each_in_its_own_way(shape: tuple[int, int, int]) -> None:
    images = torch.full((64, *shape), 100, dtype=torch.uint8)
    changed = classifier.augmented(images, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert torch.equal(changed, classifier.augmented(images, torch.Generator().manual_seed(0)))
    noise = changed.flatten(1).std(dim=1)
    assert 16 < (noise < 0.01).sum() < 48, "half of the images have no noise"
    assert noise.max() > 30
    bare = changed[noise < 0.01].flatten(1).mean(dim=1)  # an even image stays even, without a darker border
    assert bare.min() < 70
    assert bare.max() > 130


@pytest.mark.slow
def test_training_is_deterministic_leaves_the_global_generator_alone_and_learns(stripes: Dataset) -> None:
    before = torch.get_rng_state()
    first = classifier.train(stripes, steps=30)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    again = classifier.train(stripes, steps=30)
    assert all(torch.equal(first[name], again[name]) for name in first)
    net = classifier.network((3, 8, 12), 2)
    net.load_state_dict(first)
    logits = net.eval()(classifier.scaled(torch.from_numpy(stripes.test.images)))
    assert (logits.argmax(dim=1).numpy() == stripes.test.labels).all()


def test_a_classifier_learns_from_the_training_split_alone(stripes: Dataset) -> None:
    other = replace(stripes, test=Images(255 - stripes.test.images, stripes.test.labels))
    one, two = (classifier.train(data, steps=3) for data in (stripes, other))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_other_data_trains_its_classifier_once(
    stripes: Dataset, tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_extractor("classifier", stripes, cache=tmp_path)
    assert "training a classifier of stripes" in capsys.readouterr().err
    second = load_extractor("classifier", stripes, cache=tmp_path)
    assert quick == ["stripes"]
    assert first.sha256 == second.sha256
    assert first.info["accuracy"] == 1
    images = torch.from_numpy(stripes.test.images)
    assert torch.equal(first(images).logits, second(images).logits)
    [entry] = (tmp_path / "classifiers").iterdir()
    assert entry.name.startswith(stripes.sha256[:16])
    assert first.sha256 == hashlib.sha256((entry / "tensors.safetensors").read_bytes()).hexdigest()


def test_a_copy_under_another_name_has_the_same_classifier(
    stripes: Dataset, tmp_path: Path, quick: list[str]
) -> None:
    first = load_extractor("classifier", replace(stripes, name="folder:/one"), cache=tmp_path)
    second = load_extractor("classifier", replace(stripes, name="folder:/two"), cache=tmp_path)
    assert first.sha256 == second.sha256
    assert len(quick) == 1


def test_a_dry_run_trains_nothing_and_says_so(stripes: Dataset, tmp_path: Path, quick: list[str]) -> None:
    def describe(dataset: Dataset, *, train: bool) -> dict[str, Any]:
        return extractors.describe("classifier", dataset, train=train, cache=tmp_path)

    assert describe(stripes, train=False) == {"sha256": extractors.TO_BE_TRAINED, "feature_dim": 64}
    assert not quick
    assert not any(tmp_path.iterdir())
    trained = describe(stripes, train=True)
    assert len(quick) == 1
    assert describe(stripes, train=False) == trained
    shipped = datasets.load("digits", data_root=tmp_path)
    assert describe(shipped, train=False)["sha256"] != extractors.TO_BE_TRAINED


def test_a_training_says_how_far_it_is(
    stripes: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(classifier, "REPORT_EVERY", -1.0)
    classifier.train(stripes, steps=2)
    assert capsys.readouterr().err == "".join(f"classifier of stripes: step {k} of 2\n" for k in range(2))


@pytest.mark.slow
def test_other_pixels_need_another_classifier(stripes: Dataset, tmp_path: Path, quick: list[str]) -> None:
    load_extractor("classifier", stripes, cache=tmp_path)
    load_extractor("classifier", replace(stripes, sha256="6" * 64), cache=tmp_path)
    assert len(quick) == 2


def test_the_name_of_a_data_set_cannot_leave_the_cache(
    stripes: Dataset, tmp_path: Path, quick: list[str]
) -> None:
    load_extractor("classifier", replace(stripes, name="folder:../../x"), cache=tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert [path.parent.name for path in (tmp_path / "cache").glob("*/*")] == ["classifiers"]


@pytest.mark.slow
def test_a_damaged_classifier_is_set_aside_and_trained_again(
    stripes: Dataset, tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_extractor("classifier", stripes, cache=tmp_path)
    [entry] = (tmp_path / "classifiers").iterdir()
    flip_a_bit(entry / "tensors.safetensors")
    second = load_extractor("classifier", stripes, cache=tmp_path)
    assert len(quick) == 2
    assert first.sha256 == second.sha256
    assert "damaged" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "classifiers").iterdir()} == {
        entry.name,
        f"{entry.name}.damaged-0",
    }


def test_data_without_labels_has_no_classifier(stripes: Dataset, tmp_path: Path) -> None:
    bare = replace(stripes, name="folder:faces", train=Images(stripes.train.images, None), n_classes=0)
    expected = "--features classifier: .*'folder:faces' has no labels.*use --features generic"
    with pytest.raises(UsageError, match=expected):
        load_extractor("classifier", bare, cache=tmp_path)


def test_an_unknown_extractor_names_the_nearest(stripes: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--features: 'clasifier' is not one of .*mean 'classifier'"):
        load_extractor("clasifier", stripes, cache=tmp_path)
