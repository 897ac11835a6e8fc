"""From images to features: what the scores are computed on.

``classifier`` (:mod:`bench.classifier`) knows the data's own classes; ``inception-v3-compat``
(:mod:`bench.inception`) gives the features of published FIDs.

    python -m bench.features train --dataset mnist        makes the classifier that is shipped

Letters beside tensors: N images, B images of a batch, C channels, H height, W width, D features, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import fingerprint
from bench.cli import Parser, chosen, run_main
from bench.errors import UsageError, nearest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench.datasets import Dataset

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

        from bench.environment import scoring

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

    from bench.environment import scoring

    with scoring():  # building a network draws from the global random stream
        if name == "classifier":
            from bench import classifier

            return classifier.extractor(dataset, cache, torch.device(device))
        if name == "inception-v3-compat":
            from bench import inception

            return inception.extractor(dataset, torch.device(device), inception_weights, offline)
    raise UsageError(f"--features: {name!r} is not one of {', '.join(NAMES)}{nearest(name, NAMES)}")


def describe(name: str, dataset: Dataset, *, train: bool, cache: Path, **options: Any) -> dict[str, Any]:
    """What a protocol says of an extractor, made ready by the way; without ``train``, unless it is a
    classifier that is still :data:`TO_BE_TRAINED`.

    Raises:
        UsageError: as for :func:`load_extractor`.
    """
    if name == "classifier" and not train:
        from bench import classifier

        if not classifier.is_ready(dataset, cache):
            return {"sha256": TO_BE_TRAINED, "feature_dim": classifier.FEATURE_DIM}
    extractor = load_extractor(name, dataset, cache=cache, **options)
    said = {key: extractor.info[key] for key in ("feature_dim", "official") if key in extractor.info}
    return {"sha256": extractor.sha256, **said}


def real_features(extractor: Extractor, images: Tensor, cache: Path) -> Features:
    """Features of real images (N, C, H, W), kept in the cache by the hash of weights and pixels."""
    from bench import tensorfiles

    code = fingerprint.short(fingerprint.scoring_code())
    setting = f"{code} {extractor.sha256} {extractor.device.type} {tuple(images.shape)}\n"
    key = hashlib.sha256(setting.encode())
    key.update(images.cpu().contiguous().numpy().data)
    folder = cache / "features" / key.hexdigest()
    entry = tensorfiles.kept(folder)
    if entry is None:
        computed = extractor(images)
        entry = tensorfiles.keep(folder, {"features": computed.features, "logits": computed.logits}, {})
    tensors, _ = entry
    return Features(tensors["features"], tensors["logits"])


# ------------------------------------------------------------------ the command


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="bench.features", description=main.__doc__)
    p.add_argument("command", type=chosen(("train",)), metavar="train")
    p.add_argument("--dataset", required=True, metavar="NAME", help="as for bench.run")
    p.add_argument("--data-root", type=Path, default=Path("data"), metavar="DIR")
    p.add_argument("--offline", action="store_true", help="never touch the network")
    p.add_argument(
        "--out",
        metavar="FILE",
        help="FILE.safetensors and FILE.json are written; default, in a checkout: the shipped ones' place",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Make a classifier in the way in which the shipped ones were made."""
    given = parser().parse(argv)

    from bench import classifier, datasets, tensorfiles

    dataset = datasets.load(given.dataset, data_root=given.data_root, offline=given.offline)
    classifier.refuse_unlabelled(dataset)
    out = _out(given.out, dataset.name)
    tensors, record = classifier.trained(dataset)
    tensorfiles.write(out, tensors, record)
    print(f"{out}.safetensors: right about {record['accuracy']:.2%} of {len(dataset.test)} test images")
    return 0


def _out(given: str | None, dataset: str) -> Path:
    """Where the weights go, without suffix: an installed package is not written into."""
    from bench.classifier import SHIPPED_NAMES

    if given is None:
        if dataset in SHIPPED_NAMES and (SHIPPED.parents[1] / "pyproject.toml").exists():
            return SHIPPED / dataset
        raise UsageError("--out: name a FILE; the package itself holds the shipped classifiers alone")
    out = Path(given)
    if not out.name or out.is_dir():
        raise UsageError(f"--out: {given!r} is not allowed; the name of a file")
    return out.with_suffix("")


if __name__ == "__main__":
    run_main(main)
