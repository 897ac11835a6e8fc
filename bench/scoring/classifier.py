"""The ``classifier`` extractor: a small convolutional network that was trained on the data's own classes.

The classifiers of ``digits`` and ``mnist`` come with the package, in ``bench/scoring/weights``, so that
scores from two machines are comparable. For other data with labels, a classifier is trained on first use,
for as long as it gets better (:mod:`bench.scoring.fitting`), and kept in the cache.

Training images are changed at random, by noise, blur, intensity and shifts (:func:`augmented`), so that
images of imperfect generators are recognised, too. ``docs/scores.md`` says what the scores see and miss.

A classifier is trained on the training split alone. The shipped ones were trained on all of it, which
includes the examples that ``holdout`` takes for validation; the others on nine tenths of it, as the rest says
when to stop. None ever saw the test split.

Letters beside tensors: N images, B images of a batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import math
import platform
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.data.datasets import Dataset, Images, split
from bench.errors import UsageError
from bench.scoring import determinism, fitting, kept
from bench.scoring.features import Extractor
from bench.store import cache as entries

GRID = 4
STEPS = 3000
"""Of the classifiers that come with the package."""
SMALL = 32
"""Pixels in the shorter direction of an image. Those with twice as many or more are averaged down to it."""
BATCH_SIZE = 128
LR = 5e-3

NOISE = 48.0
"""The largest standard deviation of the noise, of 255."""
BLUR = 1.6
"""The largest standard deviation of the blur, in pixels of an image that is 28 pixels wide or wider."""
INTENSITY = (0.5, 1.4)
OFFSET = 32.0
"""Pixels times a factor between these, plus or minus up to this."""

REPORT_EVERY = 5.0
"""Seconds between two lines that report the progress of a training."""


def extractor(dataset: Dataset, cache: Path, device: torch.device) -> Extractor:
    """The classifier of this data set. Its features are the input of its last layer.

    Raises:
        UsageError: the data set has no labels, or the shipped weights are damaged.
    """
    kept.refuse_unlabelled(dataset)
    if dataset.name in kept.SHIPPED_NAMES:
        tensors, record = shipped(dataset.name)
    else:
        tensors, record = _own(dataset, cache)
    net = _trained_network(dataset, tensors).to(device)

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        features = net.get_submodule("trunk")(scaled(small(images)))
        return features, net.get_submodule("head")(features)

    info = {key: record[key] for key in ("accuracy", "command", "dataset_sha256", "feature_dim")}
    return Extractor("classifier", record["sha256"], info, forward, device, batch_size=100)


def network(shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
    """``trunk``: images (B, C, H, W) in [-1, 1] -> features (B, 64). ``head``: features -> logits (B, K).

    ``shape`` is (C, H, W), with at least 8x8 pixels. Features come from a grid of 4x4 places, not from their
    mean, so that shapes and places count. Layers halve the image as long as that leaves such a grid.
    """
    channels, *size = shape
    side = min(size)
    layers: list[nn.Module] = []
    for n_in, n_out, halved in (
        (channels, 16, False),
        (16, 32, True),
        (32, 64, True),
        (64, 64, False),
        (64, 64, True),
    ):
        stride = 2 if halved and (side + 1) // 2 >= GRID else 1
        side = -(-side // stride)
        layers += [
            nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
        ]
    trunk = nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(GRID),
        nn.Flatten(),
        nn.Linear(64 * GRID**2, kept.FEATURE_DIM, bias=False),
        nn.BatchNorm1d(kept.FEATURE_DIM),
        nn.ReLU(),
    )
    return nn.Sequential(OrderedDict(trunk=trunk, head=nn.Linear(kept.FEATURE_DIM, n_classes)))


def scaled(images: Tensor) -> Tensor:
    """uint8 (B, C, H, W) -> float32 in [-1, 1], in the memory format in which convolutions are fastest."""
    return (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def small(images: Tensor) -> Tensor:
    """uint8 (B, C, H, W), averaged over squares where they are large, so that these take no longer."""
    factor = min(images.shape[-2:]) // SMALL
    return images if factor < 2 else F.avg_pool2d(images.float(), factor).round().to(torch.uint8)


def train(dataset: Dataset, steps: int = STEPS) -> dict[str, Tensor]:
    """Train a classifier for a fixed number of steps on the training split; returns its weights.

    The weights are the same to the bit in every process of one machine, because they are trained on the CPU
    with one thread. (The hash of the weights is part of a run's protocol.)

    AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), one-cycle learning rate (Smith 2018,
    arXiv:1803.09820); images are changed at random (:func:`augmented`).
    """
    with determinism.scoring():
        return _train(dataset, steps)


def _train(dataset: Dataset, steps: int) -> dict[str, Tensor]:
    images, labels = _tensors(dataset.train)
    net = _network(dataset)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    rng = torch.Generator().manual_seed(0)
    reported = time.monotonic()
    for step in range(steps):
        if time.monotonic() - reported > REPORT_EVERY:
            print(f"classifier of {dataset.name}: step {step} of {steps}", file=sys.stderr, flush=True)
            reported = time.monotonic()
        chosen = torch.randint(len(images), (BATCH_SIZE,), generator=rng)
        loss = F.cross_entropy(net(scaled(augmented(images[chosen], rng))), labels[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return {name: value.contiguous() for name, value in net.state_dict().items()}


def augmented(images: Tensor, rng: torch.Generator) -> Tensor:
    """uint8 (B, C, H, W) -> float32 (B, C, H, W) in [0, 255], changed as generators err.

    A batch is shifted by up to a fourteenth of its width and has one blur. Each image has its own share of
    the blur, its own intensity, and in half of the images noise. Without these the classifier would assign
    noisy and blurred images of all classes to a few, and the scores would count its errors as lost modes.
    """
    n, channels, height, width = images.shape

    def each(low: float, high: float) -> Tensor:
        return torch.empty(n, 1, 1, 1).uniform_(low, high, generator=rng)

    shift, reach = max(1, width // 14), math.ceil(2 * BLUR)
    wide = F.pad(images.float(), [shift + reach] * 4, mode="replicate")
    dy, dx = torch.randint(2 * shift + 1, (2,), generator=rng).tolist()
    wide = wide[:, :, dy : dy + height + 2 * reach, dx : dx + width + 2 * reach]
    inner = slice(reach, -reach)
    sigma = BLUR * min(1.0, width / 28) * torch.rand((), generator=rng).clamp(min=0.05)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(channels, 1, -1)
    rows = F.conv2d(wide, kernel[..., :, None], groups=channels)
    blurred = F.conv2d(rows, kernel[..., None, :], groups=channels)
    changed = torch.lerp(wide[..., inner, inner], blurred, each(0, 1))
    changed = changed * each(*INTENSITY) + each(-OFFSET, OFFSET)
    noise = torch.randn(changed.shape, generator=rng) * each(-NOISE, NOISE).clamp(min=0)
    return (changed + noise).clamp(0, 255)


def fit(dataset: Dataset, checkpoint: Path | None = None) -> tuple[dict[str, Tensor], int]:
    """Train a classifier for as long as it gets better; returns its weights and the number of steps.

    A tenth of the training split says when to stop. A stopped training goes on from its checkpoint.
    """
    rest, held_out = split(dataset.train, -(-len(dataset.train) // 10))
    return fitting.fit(
        lambda: _network(dataset),
        _tensors(rest),
        _tensors(held_out),
        lambda images, stream: scaled(augmented(images, stream)),
        name=dataset.name,
        checkpoint=checkpoint,
    )


def trained(dataset: Dataset, checkpoint: Path | None = None) -> entries.Entry:
    """Train a classifier; returns its weights, and a record of its test accuracy and of how it was made."""
    if dataset.name in kept.SHIPPED_NAMES:
        tensors, steps = train(dataset), STEPS
    else:
        tensors, steps = fit(dataset, checkpoint)
    command = f"python -m bench.features train --dataset {dataset.name}"
    return tensors, record_of(dataset, tensors, steps, command)


def record_of(dataset: Dataset, tensors: dict[str, Tensor], steps: int, command: str) -> dict[str, Any]:
    """What is kept beside the weights of a classifier of this data set."""
    net = _trained_network(dataset, tensors)
    images, labels = _tensors(dataset.test)
    with torch.inference_mode():
        right = torch.cat([net(scaled(part)) for part in torch.split(images, 100)]).argmax(dim=1) == labels
    return {
        "command": command,
        "accuracy": right.double().mean().item(),
        "dataset": dataset.name,
        "dataset_sha256": dataset.sha256,
        "shape": list(dataset.shape),
        "n_classes": dataset.n_classes,
        "feature_dim": kept.FEATURE_DIM,
        "steps": steps,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }


def shipped(name: str) -> entries.Entry:
    """Weights that come with the package: of ``digits``, ``mnist`` or ``generic``.

    Raises:
        UsageError: they are damaged.
    """
    try:
        return entries.read(kept.SHIPPED / name)
    except (entries.DamagedError, FileNotFoundError) as error:
        raise UsageError(
            f"--features: the weights in this package cannot be used ({error}); install it again"
        ) from error


def _own(dataset: Dataset, cache: Path) -> entries.Entry:
    """The classifier of this data set from the cache. Where there is none, it is trained and kept."""

    def compute() -> entries.Entry:
        print(
            f"training a classifier of {dataset.name} for the scores, once; --features generic needs none",
            file=sys.stderr,
        )
        return trained(dataset, folder.with_name(f"{folder.name}.partial.pt"))

    folder = kept.own_folder(dataset, cache)
    return entries.cached(folder, compute)


def _network(dataset: Dataset) -> nn.Sequential:
    channels, height, width = small(torch.from_numpy(dataset.train.images[:1])).shape[1:]
    return network((channels, height, width), dataset.n_classes)


def _trained_network(dataset: Dataset, tensors: dict[str, Tensor]) -> nn.Sequential:
    net = _network(dataset)
    net.load_state_dict(tensors)
    return net.eval()


def _tensors(images: Images) -> tuple[Tensor, Tensor]:
    return small(torch.from_numpy(images.images)), torch.from_numpy(images.labels)
