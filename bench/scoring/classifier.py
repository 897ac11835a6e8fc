"""The ``classifier`` extractor: a small convolutional network that was trained on the data's own classes.

The classifiers of ``digits`` and ``mnist`` come with the package, in ``bench/scoring/weights``, so that
scores from two machines are comparable. For other data with labels, a classifier is trained on first use and
kept in the cache.

A classifier is trained on the training split alone. The shipped ones were trained on all of it, which
includes the examples that ``holdout`` takes for validation. They never saw the test split.

Letters beside tensors: N images, B images of a batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import platform
import sys
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.data.datasets import Dataset, Images
from bench.errors import UsageError
from bench.identity import fingerprint
from bench.scoring import determinism
from bench.scoring.features import Extractor
from bench.store import cache as entries

SHIPPED = Path(__file__).parent / "weights"
SHIPPED_NAMES = ("digits", "mnist")

FEATURE_DIM = 64
STEPS = 4000
BATCH_SIZE = 128
LR = 5e-3

REPORT_EVERY = 5.0
"""Seconds between two lines that report the progress of a training."""


def extractor(dataset: Dataset, cache: Path, device: torch.device) -> Extractor:
    """The classifier of this data set. Its features are the input of its last layer.

    Raises:
        UsageError: the data set has no labels, or the shipped weights are damaged.
    """
    refuse_unlabelled(dataset)
    if dataset.name in SHIPPED_NAMES:
        tensors, record = _shipped(dataset.name)
    else:
        tensors, record = _own(dataset, cache)
    net = _trained_network(dataset, tensors).to(device)

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        features = net.get_submodule("trunk")(scaled(images))
        return features, net.get_submodule("head")(features)

    info = {key: record[key] for key in ("accuracy", "command", "dataset_sha256", "feature_dim")}
    return Extractor("classifier", record["sha256"], info, forward, device, batch_size=100)


def is_ready(dataset: Dataset, cache: Path) -> bool:
    """Whether the classifier of this data set exists already. Otherwise :func:`extractor` trains it."""
    refuse_unlabelled(dataset)
    return dataset.name in SHIPPED_NAMES or _own_folder(dataset, cache).exists()


def refuse_unlabelled(dataset: Dataset) -> None:
    """Raise a UsageError if the data set has no labels."""
    if not dataset.n_classes:
        raise UsageError(
            f"--features classifier: data set {dataset.name!r} has no labels to learn from; "
            "use --features inception-v3-compat"
        )


def network(channels: int, n_classes: int) -> nn.Sequential:
    """``trunk``: images (B, C, H, W) in [-1, 1] -> features (B, 64). ``head``: features -> logits (B, K).

    Images have at least 8x8 pixels.
    """
    layers: list[nn.Module] = []
    for n_in, n_out, stride in (
        (channels, 16, 1),
        (16, 32, 2),
        (32, 64, 2),
        (64, 64, 1),
        (64, FEATURE_DIM, 2),
    ):
        layers += [
            nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
        ]
    trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(OrderedDict(trunk=trunk, head=nn.Linear(FEATURE_DIM, n_classes)))


def scaled(images: Tensor) -> Tensor:
    """uint8 (B, C, H, W) -> float32 in [-1, 1], in the memory format in which convolutions are fastest."""
    return (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def train(dataset: Dataset, steps: int = STEPS) -> dict[str, Tensor]:
    """Train a classifier on the training split; returns its weights.

    The weights are the same to the bit in every process of one machine, because they are trained on the CPU
    with one thread. (The hash of the weights is part of a run's protocol.)

    AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), one-cycle learning rate (Smith 2018,
    arXiv:1803.09820); each batch is shifted at random by up to a fourteenth of its width.
    """
    with determinism.scoring():
        return _train(dataset, steps)


def _train(dataset: Dataset, steps: int) -> dict[str, Tensor]:
    images, labels = _tensors(dataset.train)
    _, _, height, width = images.shape
    pad = max(1, width // 14)
    net = network(images.shape[1], dataset.n_classes)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    rng = torch.Generator().manual_seed(0)
    reported = time.monotonic()
    for step in range(steps):
        if time.monotonic() - reported > REPORT_EVERY:
            print(f"classifier of {dataset.name}: step {step} of {steps}", file=sys.stderr, flush=True)
            reported = time.monotonic()
        chosen = torch.randint(len(images), (BATCH_SIZE,), generator=rng)
        dy, dx = torch.randint(2 * pad + 1, (2,), generator=rng).tolist()
        shifted = F.pad(images[chosen], [pad] * 4)[:, :, dy : dy + height, dx : dx + width]
        loss = F.cross_entropy(net(scaled(shifted)), labels[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return {name: value.contiguous() for name, value in net.state_dict().items()}


def trained(dataset: Dataset) -> entries.Entry:
    """Train a classifier; returns its weights, and a record of its test accuracy and of how it was made."""
    tensors = train(dataset)
    net = _trained_network(dataset, tensors)
    images, labels = _tensors(dataset.test)
    with torch.inference_mode():
        right = torch.cat([net(scaled(part)) for part in torch.split(images, 100)]).argmax(dim=1) == labels
    return tensors, {
        "command": f"python -m bench.features train --dataset {dataset.name}",
        "accuracy": right.double().mean().item(),
        "dataset": dataset.name,
        "dataset_sha256": dataset.sha256,
        "shape": list(dataset.shape),
        "n_classes": dataset.n_classes,
        "feature_dim": FEATURE_DIM,
        "steps": STEPS,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }


def _shipped(name: str) -> entries.Entry:
    try:
        return entries.read(SHIPPED / name)
    except (entries.DamagedError, FileNotFoundError) as error:
        raise UsageError(
            f"--features classifier: the weights in this package cannot be used ({error}); install it again"
        ) from error


def _own_folder(dataset: Dataset, cache: Path) -> Path:
    return cache / "classifiers" / f"{dataset.sha256[:16]}-{fingerprint.module_code(__name__)}"


def _own(dataset: Dataset, cache: Path) -> entries.Entry:
    """The classifier of this data set from the cache. Where there is none, it is trained and kept."""

    def compute() -> entries.Entry:
        print(f"training a classifier of {dataset.name} for the scores: once, minutes", file=sys.stderr)
        return trained(dataset)

    return entries.cached(_own_folder(dataset, cache), compute)


def _trained_network(dataset: Dataset, tensors: dict[str, Tensor]) -> nn.Sequential:
    net = network(dataset.shape[0], dataset.n_classes)
    net.load_state_dict(tensors)
    return net.eval()


def _tensors(images: Images) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(images.images), torch.from_numpy(images.labels)
