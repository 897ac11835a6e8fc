"""The extractors by name. Scores are computed on the features that they give.

``classifier`` (:mod:`bench.scoring.classifier`) knows the data's own classes; ``inception-v3-compat``
(:mod:`bench.scoring.inception`) gives the features of published FIDs; ``generic``
(:mod:`bench.scoring.generic`) serves any small images and needs neither labels nor a download.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError, nearest

if TYPE_CHECKING:
    import torch

    from bench.data.datasets import Dataset
    from bench.scoring.features import Extractor

NAMES = ("classifier", "inception-v3-compat", "generic")
AUTO = "auto"
"""``classifier`` for data with labels, otherwise ``generic``."""
TO_BE_TRAINED = "to be trained"
"""In a dry run, in place of a hash: the weights of a classifier that does not exist yet."""


def load_extractor(
    name: str,
    dataset: Dataset,
    *,
    cache: Path,
    device: str | torch.device = "cpu",
    inception_weights: Path | None = None,
    offline: bool = False,
) -> Extractor:
    """The extractor of this name for a data set. It takes minutes where a classifier must be trained first.

    Raises:
        UsageError: there is no such extractor, it does not take these images, or its weights are
            damaged, missing or cannot be downloaded.
    """
    import torch

    from bench.scoring.determinism import scoring

    with scoring():  # building a network draws from the global random stream
        if name == "classifier":
            from bench.scoring import classifier

            return classifier.extractor(dataset, cache, torch.device(device))
        if name == "generic":
            from bench.scoring import generic

            return generic.extractor(dataset, torch.device(device))
        if name == "inception-v3-compat":
            from bench.scoring import inception

            return inception.extractor(dataset, torch.device(device), inception_weights, offline)
    raise UsageError(f"--features: {name!r} is not one of {', '.join(NAMES)}{nearest(name, NAMES)}")


def resolve(names: Sequence[str], dataset: Dataset) -> tuple[list[str], str | None]:
    """The extractors for a data set and, if ``auto`` is not the usual one, a sentence that says why."""
    chosen = "classifier" if dataset.n_classes else "generic"
    found = list(dict.fromkeys(chosen if name == AUTO else name for name in names))
    if AUTO not in names or dataset.n_classes:
        return found, None
    return found, f"--features auto is {chosen} here, because {dataset.name} has no labels"


def describe(name: str, dataset: Dataset, *, train: bool, cache: Path, **options: Any) -> dict[str, Any]:
    """What a protocol says of an extractor: the hash of its weights, and the number of features.

    The extractor is loaded, so a classifier that does not exist yet is trained here. Without ``train``
    it is not, and its hash is :data:`TO_BE_TRAINED`.

    Raises:
        UsageError: as for :func:`load_extractor`.
    """
    if name == "classifier" and not train:
        from bench.scoring import classifier

        if not classifier.is_ready(dataset, cache):
            return {"sha256": TO_BE_TRAINED, "feature_dim": classifier.FEATURE_DIM}
    extractor = load_extractor(name, dataset, cache=cache, **options)
    said = ("feature_dim", "official", "logits")
    return {"sha256": extractor.sha256} | {key: extractor.info[key] for key in said if key in extractor.info}
