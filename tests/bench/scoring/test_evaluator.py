"""What the generator is asked for, how many samples are scored, and what is averaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.gan import Batch, DataSpec, Draw, Nets
from baselines.srgan import srgan
from baselines.vanilla import vanilla
from bench.data import datasets
from bench.data.datasets import Dataset, Images
from bench.scoring import metrics, references, sizes
from bench.scoring.conditional import conditional_scores
from bench.scoring.evaluator import Evaluator
from bench.scoring.extractors import load_extractor
from bench.scoring.features import Features

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """Digits of which training has few ones, and test has its usual frequencies."""
    whole = datasets.load("digits", data_root=Path("unused"))
    assert whole.train.labels is not None
    return replace(whole, train=whole.train[np.flatnonzero((whole.train.labels != 1) | few(whole.train))])


def few(images: Images) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.arange(len(images)) % 10 == 0


@pytest.fixture(scope="module")
def evaluator(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    folder = tmp_path_factory.mktemp("cache")
    extractor = load_extractor("classifier", digits, cache=folder)
    return Evaluator(digits, "test", {"classifier": extractor}, folder, CPU)


class Copier:
    """A conditional "model" that shows a training image of the class that it is asked for."""

    def __init__(self, dataset: Dataset, *, wrong: bool = False) -> None:
        assert dataset.train.labels is not None
        self.asked: list[Tensor] = []
        self.judged: list[tuple[Tensor, Tensor]] = []
        self.images = torch.from_numpy(dataset.train.images).float() / 127.5 - 1
        self.first = torch.from_numpy(np.array([np.argmax(dataset.train.labels == k) for k in range(10)]))
        self.shift = int(wrong)
        self.gan = replace(vanilla(DataSpec(1, 8, 8, 10)), generate=self.generate, discriminate=self.judge)

    def generate(self, nets: Nets, batch: Batch, draw: Draw) -> Tensor:
        assert len(batch["image"]) == len(batch["label"]) == len(draw["z"])
        self.asked.append(batch["label"])
        return self.images[self.first[(batch["label"] + self.shift) % 10]]

    def judge(self, nets: Nets, batch: Batch) -> Tensor:
        self.judged.append((batch["image"], batch["label"]))
        return torch.ones(len(batch["image"]))

    def labels(self, evaluator: Evaluator, seed: int, draw_number: int = 0) -> Tensor:
        """What it is asked for."""
        self.asked.clear()
        evaluator.sample(self.gan, {}, seed, draw_number)
        return torch.cat(self.asked)


def test_classes_are_asked_for_as_often_as_in_training(evaluator: Evaluator, digits: Dataset) -> None:
    """Not as often as in the split that is scored against. Multinomial, so within four deviations."""
    assert digits.train.labels is not None
    labels = Copier(digits).labels(evaluator, seed=0)
    assert len(labels) == evaluator.n_fake == 3600
    expected = np.bincount(digits.train.labels) / len(digits.train)
    assert expected[1] < 0.02
    off = np.bincount(labels.numpy(), minlength=10) / 3600 - expected
    assert (np.abs(off) < 4 * np.sqrt(expected * (1 - expected) / 3600)).all()


def test_the_seed_chooses_the_labels_and_each_draw_has_its_own(evaluator: Evaluator, digits: Dataset) -> None:
    model = Copier(digits)
    first, again, other, draw = (model.labels(evaluator, *given) for given in ((0,), (0,), (1,), (0, 1)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, draw)


@pytest.mark.parametrize("wrong", [False, True])
def test_conditional_scores_are_of_the_labels_asked_for(
    evaluator: Evaluator, digits: Dataset, wrong: bool
) -> None:
    model = Copier(digits, wrong=wrong)
    found = evaluator.evaluate(model.gan, {}, seed=0, conditional=True)
    assert found.metrics["classifier"]["cond_accuracy"] == (0 if wrong else 1)
    labels = torch.cat([label for _, label in model.judged])
    assert digits.test.labels is not None
    assert torch.equal(labels[:360], torch.from_numpy(digits.test.labels)), (
        "real images with their own labels"
    )
    assert torch.equal(labels[360:], torch.cat(model.asked)), "fakes with those that were asked for"
    images = torch.cat([image for image, _ in model.judged])
    assert torch.equal(images[360:], model.images[model.first[(labels[360:] + wrong) % 10]])
    assert found.d_accuracy == {"real": 1, "fake": 0, "balanced": 0.5}


def test_class_fid_pairs_each_class_with_its_own() -> None:
    """Sides of different sizes and orders; a class whose images are too few leaves it out."""
    rng = np.random.default_rng(0)

    def side(labels: Tensor) -> Features:
        points = rng.normal(size=(len(labels), 3)) + 10 * labels[:, None].numpy()
        return Features(torch.from_numpy(points), torch.eye(3)[labels])

    real, fake = torch.arange(300) % 3, torch.arange(900).flip(0) % 3
    scores = conditional_scores(side(real), real, side(fake), fake)
    assert scores["cond_accuracy"] == 1
    assert scores["class_fid"] < 0.5
    lacking = torch.cat([torch.zeros(500), torch.ones(500), torch.full((5,), 2)]).long()
    assert "class_fid" not in conditional_scores(side(real), real, side(lacking), lacking)


def test_super_resolution_is_given_each_example_of_the_split(evaluator: Evaluator, digits: Dataset) -> None:
    seen: list[Tensor] = []
    model = srgan(digits.spec)

    def generate(nets: Nets, batch: Batch, draw: Draw) -> Tensor:
        seen.append(batch["image"])
        return batch["image"]

    found = evaluator.evaluate(replace(model, generate=generate, discriminate=None), {}, seed=0)
    assert torch.equal(found.images, torch.from_numpy(digits.test.images))
    assert found.metrics["super-resolution"]["ssim"] == pytest.approx(1)


def test_more_samples_bring_a_draw_nearer_to_the_truth() -> None:
    """Why a small split is scored with more samples than it has: bias and deviation of FID fall."""
    generator = torch.Generator().manual_seed(0)

    def cloud(n: int) -> Features:
        return Features(torch.randn(n, 8, generator=generator), torch.zeros(n, 2))

    real = cloud(100)
    truth = metrics.score(real, cloud(40_000), seed=0)["fid"]
    few, many = (
        np.array([metrics.score(real, cloud(n), seed=0)["fid"] for _ in range(12)])
        for n in (100, sizes.n_fakes(100))
    )
    assert many.std() < few.std() / 1.5
    assert abs(many.mean() - truth) < abs(few.mean() - truth) / 4


def test_real_data_is_scored_in_several_draws_of_as_many_images(evaluator: Evaluator) -> None:
    draws = evaluator.real_data_baseline()["classifier"]
    assert {len(values) for values in draws.values()} == {5}
    assert len(set(draws["fid"])) == 5
    chosen, _ = evaluator._real_draw(evaluator.extractors["classifier"], 0)
    assert len(chosen) == evaluator.n_fake
    for block in chosen.split(360):
        assert len(torch.unique(block, dim=0)) == 360, "no image twice in a block of precision and recall"


def test_memorisation_is_of_all_training_images(evaluator: Evaluator, digits: Dataset) -> None:
    """A copier of any part of them is found out. Scores along the way do not have it."""
    found = evaluator.evaluate(Copier(digits).gan, {}, seed=0)
    assert "authpct" not in found.metrics["classifier"]
    draws = evaluator.draws(Copier(digits).gan, {}, 0, found, 2)["classifier"]
    assert draws["authpct"] == [0, 0]
    assert max(draws["c_t"]) < -10
    assert max(draws["coverage"]) < 0.05, "it shows ten images"
    copies = evaluator.real_data_baseline()["classifier"]
    assert set(copies["authpct"]) == {0}


def test_halves_of_the_split_are_what_a_perfect_model_gets(evaluator: Evaluator, digits: Dataset) -> None:
    halves = references.halves(evaluator)["classifier"]
    assert {len(values) for values in halves.values()} == {5}
    assert len(set(halves["authpct"])) == 5
    assert min(halves["authpct"]) > 30
    assert np.abs(np.mean(halves["c_t"])) < 1.5
    assert np.mean(halves["density"]) == pytest.approx(1, abs=0.15)
    assert set(halves) == {"authpct", "c_t", "density"}, "others depend on the number of samples"
    assert references.halves(evaluator)["classifier"] == halves, "from the cache"


def test_halves_have_scores_of_fidelity_where_they_are_large_enough(
    evaluator: Evaluator, digits: Dataset, tmp_path: Path
) -> None:
    large = replace(digits, test=digits.train[np.arange(1280)], train=digits.test)
    halves = references.halves(Evaluator(large, "test", evaluator.extractors, tmp_path, CPU))["classifier"]
    assert max(halves["fid"]) < 2
    assert min(halves["modes"]) == min(halves["modes_knn"]) >= 9
    assert "coverage" not in halves
