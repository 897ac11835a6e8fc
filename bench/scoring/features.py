"""What an extractor is, and the features that it computes.

Letters beside tensors: N images, B images of a batch, C channels, H height, W width, D features, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.identity import fingerprint
from bench.scoring.determinism import scoring
from bench.store import cache as entries


@dataclass(frozen=True, eq=False)
class Features:
    """Float32, on the CPU: ``features`` (N, D), and ``logits`` (N, K) of classes.

    ``logits`` is None where an extractor knows no classes. Scores that need them are then absent.
    """

    features: Tensor
    logits: Tensor | None

    def __getitem__(self, rows: NDArray[np.intp]) -> Features:
        return Features(self.features[rows], None if self.logits is None else self.logits[rows])

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, eq=False)
class Extractor:
    """Turns images into features. An image's features do not depend on the batch it comes in."""

    name: str
    sha256: str
    """Of the file of weights."""
    info: Mapping[str, Any]
    """For the record."""
    forward: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    """uint8 (B, C, H, W) on ``device`` -> features (B, D), logits (B, K) or None."""
    device: torch.device
    batch_size: int

    def __call__(self, images: Tensor, batch_size: int | None = None) -> Features:
        """Features of uint8 images (N, C, H, W), which may lie on any device.

        Raises:
            ValueError: the images have another type or shape, or there are none.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
            raise ValueError(f"images must be uint8 (N, C, H, W), not {images.dtype} {tuple(images.shape)}")
        with torch.inference_mode(), scoring():
            parts = [
                self.forward(batch.to(self.device))
                for batch in torch.split(images, batch_size or self.batch_size)
            ]
            features = torch.cat([each for each, _ in parts]).float().cpu()
            logits = [each for _, each in parts if each is not None]
            return Features(features, torch.cat(logits).float().cpu() if logits else None)


def cache_key(extractor: Extractor) -> str:
    """What cached results depend on beside the images: code, weights, and what the last digits depend on."""
    code = fingerprint.short(fingerprint.scoring_code())
    versions = f"torch {torch.__version__} numpy {np.__version__}"
    on_cpu = extractor.device.type == "cpu"
    device = "cpu" if on_cpu else torch.cuda.get_device_name(extractor.device)
    cpu = torch.backends.cpu.get_cpu_capability()  # scores are computed on the CPU, wherever features are
    return f"{code} {extractor.sha256} {device} {versions} {cpu}"


def real_features(extractor: Extractor, images: Tensor, cache: Path) -> Features:
    """Features of real images (N, C, H, W). They are kept in the cache, by the hash of weights and pixels."""
    key = hashlib.sha256(f"{cache_key(extractor)} {tuple(images.shape)}\n".encode())
    key.update(images.cpu().contiguous().numpy().data)

    def compute() -> entries.Entry:
        computed = extractor(images)
        tensors = {"features": computed.features}
        return tensors if computed.logits is None else {**tensors, "logits": computed.logits}, {}

    tensors, _ = entries.cached(cache / "features" / key.hexdigest(), compute)
    return Features(tensors["features"], tensors.get("logits"))
