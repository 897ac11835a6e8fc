"""Modes of images whose channels are drawn at random, each on its own: of ``stacked-mnist``, for one.

Every channel shows a class; a mode is one combination of classes, one of 1,000 for three digits. Two judges
name the class of a channel: the shipped classifier of the digits, and nearest neighbours on pixels.

- ``modes``: how many modes have a sample. One is enough, as the papers count (Metz et al. 2017,
  arXiv:1611.02163; Lin et al. 2018, arXiv:1712.04086), so an error of a judge may add a mode;
- ``mode_kl``: KL of the modes of the samples from the uniform distribution, in nats. N samples of the data
  itself have about (K - 1) / 2N of K modes: 0.0195 of 1,000 modes and 25,600 samples.

N samples, C channels, H height, W width, K modes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.datasets import Dataset
from bench.scoring import classifier
from bench.scoring.neighbours import Neighbours
from bench.store import cache as entries

NAME = "per-channel"
"""Where the scores are in a record, in place of an extractor."""
N_SAMPLES = 25_600
"""How many samples are scored, as in the papers: both scores depend on it."""


def protocol(channels: Dataset, cache: Path) -> dict[str, Any]:
    """The settings of the scores, for the record."""
    judge = classifier.extractor(channels, cache, torch.device("cpu"))
    return {"n_fake": N_SAMPLES, "mode_samples": 1, "mode_judge_sha256": judge.sha256}


class Judges:
    """Both judges of the channels' classes. ``channels``: the data set that the channels come from."""

    def __init__(self, channels: Dataset, cache: Path, device: torch.device) -> None:
        self.n_classes = channels.n_classes
        self.classifier = classifier.extractor(channels, cache, device)
        self.neighbours = Neighbours(channels, device)

    def __call__(self, images: Tensor) -> dict[str, float]:
        """``modes``, ``mode_kl``, ``modes_knn``, ``mode_kl_knn`` of uint8 images (N, C, H, W)."""
        n, c, *size = images.shape
        channels = images.reshape(n * c, 1, *size)
        logits = self.classifier(channels).logits
        assert logits is not None
        found = {"": logits.argmax(dim=1), "_knn": self.neighbours(channels)}
        scores: dict[str, float] = {}
        for judge, classes in found.items():
            counts = mode_counts(classes.view(n, c).numpy(), self.n_classes)
            scores |= {f"{name}{judge}": value for name, value in coverage(counts).items()}
        return scores

    def baseline(self, dataset: Dataset, folder: Path, n_draws: int) -> dict[str, list[float]]:
        """The scores of stacks of training images in place of samples, by draw; kept in ``folder``."""

        def compute() -> entries.Entry:
            draws = [torch.from_numpy(dataset.drawn(N_SAMPLES, k).images) for k in range(n_draws)]
            found = [self(images) for images in draws]
            return {}, {"scores": {name: [one[name] for one in found] for name in found[0]}}

        _, record = entries.cached(folder, compute)
        scores: dict[str, list[float]] = record["scores"]
        return scores


def mode_counts(classes: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """How many samples each mode has (K,). ``classes`` (N, C) are those of the channels."""
    weights = n_classes ** np.arange(classes.shape[1])[::-1]
    return np.bincount(classes @ weights, minlength=n_classes ** classes.shape[1])


def coverage(counts: NDArray[np.int64]) -> dict[str, float]:
    """``modes`` and ``mode_kl`` of how many samples each mode has (K,)."""
    p = counts[counts > 0] / counts.sum()
    kl = float((p * np.log(p * len(counts))).sum())
    return {"modes": len(p), "mode_kl": max(0.0, kl)}  # rounding can make it negative
