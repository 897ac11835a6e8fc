"""The ``generic`` extractor: one small network for any small images, with labels or without.

Its weights come with the package, so nothing has to be trained or downloaded. They were trained on drawings
alone (:mod:`bench.scoring.drawn`), in the same way as the classifiers of data sets
(:mod:`bench.scoring.classifier`).
``docs/data.md`` says what its scores see, measured on MNIST.

Letters beside tensors: B images of a batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data.datasets import Dataset
from bench.scoring import classifier, drawn, kept
from bench.scoring.features import Extractor
from bench.store import cache as entries

COMMAND = "python -m bench.features train --features generic"
STEPS = 2000


def extractor(dataset: Dataset, device: torch.device) -> Extractor:
    """64 features of images (B, C, H, W) of 1 or 3 channels. It has no logits, since it knows no classes.

    Images are resized to 32x32 pixels. Grey images become three equal channels.

    Raises:
        UsageError: the images have other channels, or the weights in this package are damaged.
    """
    kept.refuse_channels(dataset)
    tensors, record = classifier.shipped(kept.GENERIC)
    net = classifier.network((3, drawn.SIDE, drawn.SIDE), drawn.N_CLASSES)
    net.load_state_dict(tensors)
    trunk = net.eval().to(device).get_submodule("trunk")

    def forward(images: Tensor) -> tuple[Tensor, None]:
        return trunk(classifier.scaled(resized(images))), None

    info = {"logits": False} | {key: record[key] for key in ("command", "dataset_sha256", "feature_dim")}
    return Extractor(kept.GENERIC, record["sha256"], info, forward, device, batch_size=100)


def resized(images: Tensor) -> Tensor:
    """uint8 (B, C, H, W) of 1 or 3 channels -> float32 (B, 3, 32, 32) in [0, 255]."""
    wide = images.float().expand(-1, 3, -1, -1)
    return F.interpolate(wide, (drawn.SIDE, drawn.SIDE), mode="bilinear", antialias=True)


def trained() -> entries.Entry:
    """Train the network that comes with the package; returns its weights, and how they were made."""
    pictures = drawn.dataset()
    tensors = classifier.train(pictures, STEPS)
    return tensors, classifier.record_of(pictures, tensors, STEPS, COMMAND)
