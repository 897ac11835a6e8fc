"""From images to features: what the scores are computed on.

``classifier`` (:mod:`bench.scoring.classifier`) knows the data's own classes; ``inception-v3-compat``
(:mod:`bench.scoring.inception`) gives the features of published FIDs.

Letters beside tensors: N images, B images of a batch, C channels, H height, W width, D features, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import fingerprint
from bench.errors import UsageError, nearest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench.data.datasets import Dataset

NAMES = ("classifier", "inception-v3-compat")
SHIPPED = Path(__file__).parent / "weights"
TO_BE_TRAINED = "to be trained"
"""In a dry run, in place of a hash: the weights of a classifier that there is not yet."""


@dataclass(frozen=True, eq=False)
class Features:
    """Float32, on the CPU: ``features`` (N, D), and ``logits`` (N, K) of classes."""

    features: Tensor
    logits: Tensor

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
    forward: Callable[[Tensor], tuple[Tensor, Tensor]]
    """uint8 (B, C, H, W) on ``device`` -> features (B, D), logits (B, K)."""
    device: torch.device
    batch_size: int

    def __call__(self, images: Tensor, batch_size: int | None = None) -> Features:
        """Features of uint8 images (N, C, H, W), which may lie on any device."""
        import torch

        from bench.scoring.arithmetic import scoring

        if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
            raise ValueError(f"images must be uint8 (N, C, H, W), not {images.dtype} {tuple(images.shape)}")
        with torch.inference_mode(), scoring():
            parts = [
                self.forward(batch.to(self.device))
                for batch in torch.split(images, batch_size or self.batch_size)
            ]
            features, logits = (torch.cat(part).float().cpu() for part in zip(*parts, strict=True))
        return Features(features, logits)


def load_extractor(
    name: str,
    dataset: Dataset,
    *,
    cache: Path,
    device: str | torch.device = "cpu",
    inception_weights: Path | None = None,
    offline: bool = False,
) -> Extractor:
    """The extractor for this data set, ready. A classifier may be trained here, once, for minutes.

    Raises:
        UsageError: there is no such extractor, it cannot serve these images, or its weights are
            damaged or not to be had.
    """
    import torch

    from bench.scoring.arithmetic import scoring

    with scoring():  # building a network draws from the global random stream
        if name == "classifier":
            from bench.scoring import classifier

            return classifier.extractor(dataset, cache, torch.device(device))
        if name == "inception-v3-compat":
            from bench.scoring import inception

            return inception.extractor(dataset, torch.device(device), inception_weights, offline)
    raise UsageError(f"--features: {name!r} is not one of {', '.join(NAMES)}{nearest(name, NAMES)}")


def describe(name: str, dataset: Dataset, *, train: bool, cache: Path, **options: Any) -> dict[str, Any]:
    """What a protocol says of an extractor, made ready by the way; without ``train``, unless it is a
    classifier that is still :data:`TO_BE_TRAINED`.

    Raises:
        UsageError: as for :func:`load_extractor`.
    """
    if name == "classifier" and not train:
        from bench.scoring import classifier

        if not classifier.is_ready(dataset, cache):
            return {"sha256": TO_BE_TRAINED, "feature_dim": classifier.FEATURE_DIM}
    extractor = load_extractor(name, dataset, cache=cache, **options)
    said = {key: extractor.info[key] for key in ("feature_dim", "official") if key in extractor.info}
    return {"sha256": extractor.sha256, **said}


def real_features(extractor: Extractor, images: Tensor, cache: Path) -> Features:
    """Features of real images (N, C, H, W), kept in the cache by the hash of weights and pixels."""
    from bench.store import cache as entries

    code = fingerprint.short(fingerprint.scoring_code())
    setting = f"{code} {extractor.sha256} {extractor.device.type} {tuple(images.shape)}\n"
    key = hashlib.sha256(setting.encode())
    key.update(images.cpu().contiguous().numpy().data)
    folder = cache / "features" / key.hexdigest()
    entry = entries.kept(folder)
    if entry is None:
        computed = extractor(images)
        entry = entries.keep(folder, {"features": computed.features, "logits": computed.logits}, {})
    tensors, _ = entry
    return Features(tensors["features"], tensors["logits"])
