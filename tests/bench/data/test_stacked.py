"""Stacked digits: channels drawn at random, and a reference in which all modes are equally frequent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data_checks import NOWHERE

from baselines.gan import Normal
from baselines.training.step import DataBatch, to_float
from baselines.training.streams import Stream
from baselines.training.trainer import Trainer
from baselines.vanilla import vanilla
from bench.data import datasets
from bench.data.datasets import Dataset
from bench.data.stacked import balanced, stack


@pytest.fixture(scope="module")
def stacked() -> Dataset:
    return datasets.load("stacked-digits", data_root=NOWHERE, holdout=True)


def test_every_triple_stands_ten_times_in_each_reference(stacked: Dataset) -> None:
    digits = stacked.channels
    assert digits is not None
    assert digits.val is not None
    assert stacked.val is not None
    for split, own in ((stacked.test, digits.test), (stacked.val, digits.val)):
        assert own.labels is not None
        index = balanced(own.labels)
        assert np.array_equal(split.images, stack(own.images, index))
        counts = np.bincount(own.labels[index] @ [100, 10, 1], minlength=1000)
        assert set(counts) == {10}
        for k in range(10):
            uses = np.bincount(index.ravel(), minlength=len(own))[own.labels == k]
            assert uses.max() - uses.min() <= 1
        assert split.labels is None


def test_the_data_set_has_a_fixed_content_and_gives_no_labels(stacked: Dataset) -> None:
    plain = datasets.load("stacked-digits", data_root=NOWHERE)
    assert plain.sha256.startswith("1ce11aebe04e73a4")
    assert plain.sha256 == plain.content_sha256() != stacked.sha256
    assert plain.spec.shape == (3, 8, 8)
    assert plain.spec.n_classes == 0
    assert plain.train.labels is None
    assert plain.describe()["channels"] == "digits"
    assert (plain.per_example, datasets.load("digits", data_root=NOWHERE).per_example) == (3, 1)


def test_channels_are_drawn_on_their_own(stacked: Dataset) -> None:
    index = np.array([[0, 1, 2], [5, 5, 7]])
    made = stacked.examples(index).images
    assert made.shape == (2, 3, 8, 8)
    for row, images in zip(index, made, strict=True):
        for digit, channel in zip(row, images, strict=True):
            assert np.array_equal(channel, stacked.train.images[digit, 0])
    batch = DataBatch(torch.from_numpy(stacked.train.images), None, torch.from_numpy(index))
    assert torch.equal(batch["image"], to_float(torch.from_numpy(made)))


def test_a_stream_draws_an_index_for_each_channel() -> None:
    how = {"n_examples": 50, "batch_size": 4, "n_updates": 2, "noise": {"z": Normal((3,))}}
    one = Stream(0, **how, device=torch.device("cpu"))  # type: ignore[arg-type]
    three = Stream(0, **how, device=torch.device("cpu"), per_example=3)  # type: ignore[arg-type]
    assert one.chunk()["index"].shape == (64, 2, 4)
    chunk = three.chunk()
    assert chunk["index"].shape == (64, 2, 4, 3)
    a, b, c = chunk["index"].float().flatten(0, 2).T
    assert abs(float(torch.corrcoef(torch.stack([a, b, c])).triu(1).abs().max())) < 0.2
    assert torch.equal(three.rewind(three.state)["index"], chunk["index"])


def test_seeds_resume_exactly_and_train_alike_in_a_stack(stacked: Dataset) -> None:
    images = torch.from_numpy(stacked.train.images)
    gan = vanilla(stacked.spec, g_widths=(16,), d_widths=(16,), batch_size=8)

    def trainer(*seeds: int) -> Trainer:
        return Trainer(gan, images, None, seeds, per_example=stacked.per_example)

    alone = trainer(3)
    alone.advance(3)
    state = alone.state_dict()
    alone.advance(70)  # beyond the chunk
    resumed = trainer(3)
    resumed.load_state_dict([state])
    resumed.advance(70)
    together = trainer(2, 3)
    together.advance(1)
    first = trainer(3)
    first.advance(1)
    for net, tensors in alone.weights().items():
        for key, value in tensors.items():
            assert torch.equal(value, resumed.weights()[net][key])
            torch.testing.assert_close(together.weights(1)[net][key], first.weights()[net][key])
