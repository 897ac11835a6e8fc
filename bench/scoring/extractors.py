"""The extractors by name. Scores are computed on the features that they give.

``classifier`` (:mod:`bench.scoring.classifier`) knows the data's own classes; ``inception-v3-compat``
(:mod:`bench.scoring.inception`) gives the features of published FIDs; ``generic``
(:mod:`bench.scoring.generic`) serves any small images and needs neither labels nor a download; the others
that torch-fidelity registers (:mod:`bench.scoring.pretrained`) have no classes. A user's own is
``module:function``, or a name that an installed package registers (:mod:`bench.scoring.own_features`).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError, nearest
from bench.identity import outside
from bench.scoring import kept

if TYPE_CHECKING:
    import torch

    from bench.data.datasets import Dataset
    from bench.scoring.features import Extractor

INCEPTION = "inception-v3-compat"
PRETRAINED = (
    "vgg16",
    *("clip-rn50", "clip-rn101", "clip-rn50x4", "clip-rn50x16", "clip-rn50x64"),
    *("clip-vit-b-32", "clip-vit-b-16", "clip-vit-l-14", "clip-vit-l-14-336px"),
    *("dinov2-vit-s-14", "dinov2-vit-b-14", "dinov2-vit-l-14", "dinov2-vit-g-14"),
)
"""With :data:`INCEPTION`, what torch-fidelity registers. To ask it would import PyTorch; a test does."""

NAMES = ("classifier", "generic", INCEPTION, *PRETRAINED)
USUAL_NAMES: Mapping[str, str] = {"fd-dinov2": "dinov2-vit-l-14"}
"""What the literature calls FID on an extractor -> the extractor."""

AUTO = "auto"
"""``classifier`` for data with labels, otherwise ``generic``."""
TO_BE_TRAINED = "to be trained"
"""In a dry run, in place of a hash: the weights of a classifier that does not exist yet."""


def named(text: str) -> str:
    """An argument type: the name of an extractor, or :data:`AUTO`."""
    options = (AUTO, *NAMES, *USUAL_NAMES, *outside.names("--features"))
    if text not in options and outside.location("--features", text) is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed; one of {', '.join(options)} or module:function{nearest(text, options)}"
        )
    return USUAL_NAMES.get(text, text)


def weights(text: str) -> tuple[str, Path]:
    """An argument type: ``NAME=FILE``, weights of an extractor that torch-fidelity registers."""
    name, _, file = text.partition("=")
    options = (INCEPTION, *PRETRAINED, *USUAL_NAMES)
    if not file:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; write NAME=FILE")
    if name not in options:
        raise argparse.ArgumentTypeError(
            f"{name!r} is not allowed; one of {', '.join(options)}{nearest(name, options)}"
        )
    return USUAL_NAMES.get(name, name), Path(file)


def load_extractor(
    name: str,
    dataset: Dataset,
    *,
    cache: Path,
    device: str | torch.device = "cpu",
    inception_weights: Path | None = None,
    weights: Mapping[str, Path] | None = None,
    offline: bool = False,
) -> Extractor:
    """The extractor of this name for a data set. It takes minutes where a classifier must be trained first.

    ``weights``: files by the name of the extractor, to be used instead of a download.

    Raises:
        UsageError: there is no such extractor, it does not take these images, or its weights are
            damaged, missing or cannot be downloaded.
    """
    import torch

    from bench.scoring.determinism import scoring

    given, on = (weights or {}).get(name), torch.device(device)
    with scoring():  # building a network draws from the global random stream
        if name == "classifier":
            from bench.scoring import classifier

            return classifier.extractor(dataset, cache, on)
        if name == "generic":
            from bench.scoring import generic

            return generic.extractor(dataset, on)
        if name == INCEPTION:
            from bench.scoring import inception

            if given is not None:
                return inception.extractor(dataset, on, given, offline, f"--weights {name}")
            return inception.extractor(dataset, on, inception_weights, offline)
        if name in PRETRAINED:
            from bench.scoring import pretrained

            return pretrained.extractor(name, dataset, on, given, offline)
        if outside.location("--features", name) is not None:
            from bench.scoring import own_features

            return own_features.extractor(name, dataset, on)
    raise UsageError(f"--features: {name!r} is not one of {', '.join(NAMES)}{nearest(name, NAMES)}")


def resolve(names: Sequence[str], dataset: Dataset) -> tuple[list[str], str | None]:
    """The extractors for a data set and, if ``auto`` is not the usual one, a sentence that says why.

    Points in the plane have none.

    Raises:
        UsageError: the data are points, and one is named.
    """
    if dataset.points:
        if named := [name for name in names if name != AUTO]:
            raise UsageError(
                f"--features: {named[0]!r} is not for {dataset.name}: points in the plane are scored by "
                "their coordinates, without features; leave --features out"
            )
        return [], None
    chosen = "classifier" if dataset.n_classes else "generic"
    found = list(dict.fromkeys(chosen if name == AUTO else name for name in names))
    if AUTO not in names or dataset.n_classes:
        return found, None
    return found, f"--features auto is {chosen} here, because {dataset.name} has no labels"


def are_kept(names: Sequence[str], dataset: Dataset, cache: Path) -> bool:
    """Whether all of these extractors were trained here already: none has to be loaded to describe it.

    Raises:
        UsageError: one of them does not take these images.
    """
    return all(kept.record(name, dataset, cache) for name in resolve(names, dataset)[0])


def describe(name: str, dataset: Dataset, *, train: bool, cache: Path, **options: Any) -> dict[str, Any]:
    """What a protocol says of an extractor: the hash of its weights, and the number of features.

    ``logits`` is there, and false, where it has none. An extractor that was not trained here is loaded. A
    classifier that does not exist yet is trained. Without ``train`` it is not, and its hash is
    :data:`TO_BE_TRAINED`.

    Raises:
        UsageError: as for :func:`load_extractor`.
    """
    found = kept.record(name, dataset, cache)
    if found is None and name == kept.CLASSIFIER and not train and dataset.name not in kept.SHIPPED_NAMES:
        return {"sha256": TO_BE_TRAINED, "feature_dim": kept.FEATURE_DIM}
    if found is None:
        extractor = load_extractor(name, dataset, cache=cache, **options)
        found = {**extractor.info, "sha256": extractor.sha256}
    said = ("sha256", "feature_dim", "official", "logits")
    return {key: found[key] for key in said if key in found}
