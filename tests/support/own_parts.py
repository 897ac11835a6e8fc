"""Modules of a user's own for tests: extractors and data sets, right ones and broken ones."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

FEATURES = '''
import torch
from torch import nn


class Grid(nn.Module):
    """Mean brightness on a grid of 4x4 places."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1, channels))

    def forward(self, images):
        grey = (images.float() * self.weight[:, None, None]).mean(dim=1, keepdim=True)
        return nn.functional.adaptive_avg_pool2d(grey, 4).flatten(1)


def grid(data):
    return Grid(data.channels)


class WithClasses(Grid):
    def forward(self, images):
        features = super().forward(images)
        return features, features[:, :3]


def with_classes(data):
    return WithClasses(data.channels)


def only_grey(data):
    if data.channels != 1:
        raise ValueError("grey images only")
    return Grid(1)


def unseeded(data):
    generator = torch.Generator()
    generator.seed()
    net = Grid(data.channels)
    net.weight.data = torch.rand(data.channels, generator=generator)
    return net


class Mixed(Grid):
    def forward(self, images):
        features = super().forward(images)
        return features - features.mean(dim=0)


def mixed(data):
    return Mixed(data.channels)


class Spoiling(Grid):
    def forward(self, images):
        features = super().forward(images)
        images.zero_()
        return features


def spoiling(data):
    return Spoiling(data.channels)


class Infinite(Grid):
    def forward(self, images):
        return super().forward(images) / 0


def infinite(data):
    return Infinite(data.channels)


class Constant(Grid):
    def forward(self, images):
        return torch.ones(len(images), 4)


def constant(data):
    return Constant(data.channels)


class Flat(Grid):
    def forward(self, images):
        return super().forward(images).mean(dim=1)


def flat(data):
    return Flat(data.channels)


def a_function(data):
    return lambda images: images.float().flatten(1)


def failing(data):
    raise KeyError("weights")


NUMBER = 3
'''

DATA = """
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset


def made(n, shape=(1, 8, 8), seed=0, classes=3):
    rng = np.random.RandomState(seed)
    labels = np.arange(n) % classes
    images = rng.randint(0, 100, (n, *shape)).astype(np.uint8)
    images[np.arange(n), :, labels] += 150
    return torch.from_numpy(images), torch.from_numpy(labels)


def whole(data_root):
    return TensorDataset(*made(150))


def halves(data_root):
    return TensorDataset(*made(100)), TensorDataset(*made(50, seed=1))


class Pictures(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, index):
        return Image.fromarray(np.full((8, 8, 3), 4 * index, np.uint8))


def pictures(data_root):
    return Pictures()


def overlapping(data_root):
    return TensorDataset(*made(100)), TensorDataset(*made(50))


def without_a_class(data_root):
    return TensorDataset(*made(100)), TensorDataset(*made(50, seed=1, classes=2))


def unseeded(data_root):
    return TensorDataset(*made(100, seed=np.random.randint(2**31)))


def floats(data_root):
    images, labels = made(100)
    return TensorDataset(images / 255, labels)


def channels_last(data_root):
    images, labels = made(100, (3, 8, 8))
    return TensorDataset(images.permute(0, 2, 3, 1), labels)


def few(data_root):
    return TensorDataset(*made(20))


def gaps(data_root):
    images, labels = made(100)
    return TensorDataset(images, 2 * labels)


def negative(data_root):
    images, labels = made(100)
    return TensorDataset(images, labels - 1)


def unlike(data_root):
    return [*TensorDataset(*made(50)), *TensorDataset(*made(50, (1, 9, 9)))]


def partly_labelled(data_root):
    return [*TensorDataset(*made(50)), *made(50)[0]]


def two_sizes(data_root):
    return TensorDataset(*made(100)), TensorDataset(*made(50, (1, 9, 9)))


def a_number(data_root):
    return 3


def failing(data_root):
    raise OSError("no disk")
"""


SCORES = """
import torch
from bench.scoring.own_scores import own_score


@own_score("Mean gap", better="lower")
def mean_gap(real, fake):
    return float((real.features.mean(0) - fake.features.mean(0)).norm())


def undeclared(real, fake):
    return 0.0


@own_score("FID", better="lower")
def fid(real, fake):
    return 0.0


@own_score("Unseeded", better="lower")
def unseeded(real, fake):
    return float(torch.rand(()))


@own_score("First", better="higher")
def first(real, fake):
    return fake.features[0, 0].item()


@own_score("Logits", better="higher")
def of_logits(real, fake):
    return float(fake.logits.max())


@own_score("Ratio", better="higher")
def ratio(real, fake):
    return float(real.features.std(0).mean() / fake.features.std(0).mean())


@own_score("Tensor", better="higher")
def tensor(real, fake):
    return fake.features.mean()


@own_score("Spoiling", better="higher")
def spoiling(real, fake):
    value = float(fake.features.abs().mean())
    real.features.zero_()
    return value
"""


def write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a package ``own``, with modules ``nets``, ``data`` and ``scores``, that can be imported."""
    (folder / "own").mkdir()
    (folder / "own" / "__init__.py").touch()
    (folder / "own" / "nets.py").write_text(FEATURES)
    (folder / "own" / "data.py").write_text(DATA)
    (folder / "own" / "scores.py").write_text(SCORES)
    monkeypatch.syspath_prepend(folder)
    forget()


def forget() -> None:
    """Have the package imported anew."""
    for name in ("own", "own.nets", "own.data", "own.scores"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
