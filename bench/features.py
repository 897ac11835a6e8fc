"""The networks on whose features scores are computed: train one, or measure what its scores see.

python -m bench.features train --dataset mnist          trains the classifier that comes with the package
python -m bench.features train --features generic       trains the network for any images, on drawings
python -m bench.features sensitivity --dataset mnist    scores real images that were changed in known ways
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.cli import Parser, chosen, run_main
from bench.data.datasets import Dataset
from bench.errors import UsageError
from bench.scoring.scores import MEMORISATION, SCORES, Score

if TYPE_CHECKING:
    from torch import Tensor

CLASSIFIER, GENERIC = "classifier", "generic"


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="bench.features", description=__doc__)
    p.add_argument("command", type=chosen(("train", "sensitivity")), metavar="train|sensitivity")
    p.add_argument("--dataset", metavar="NAME", help="as for bench.run")
    p.add_argument(
        "--features", type=chosen((CLASSIFIER, GENERIC)), default=CLASSIFIER, metavar="NAME",
        help=f"{CLASSIFIER} (default) or {GENERIC}",
    )  # fmt: skip
    p.add_argument("--data-root", type=Path, default=Path("data"), metavar="DIR")
    p.add_argument("--offline", action="store_true", help="never use the network")
    p.add_argument(
        "--out",
        metavar="FILE",
        help="of train: FILE.safetensors and FILE.json; in a checkout the default is bench/scoring/weights",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse(argv)

    from bench.data import datasets
    from bench.scoring import classifier, kept

    if given.command == "sensitivity" and given.out is not None:
        raise UsageError("--out: only train writes files; sensitivity prints a table")
    if given.command == "train" and given.features == GENERIC:
        if given.dataset is not None:
            raise UsageError(f"--dataset: --features {GENERIC} is trained on drawings; leave it out")
        from bench.scoring import generic

        _write(_out(given.out, GENERIC), generic.trained())
        return 0
    if given.dataset is None:
        raise UsageError("--dataset: name one")
    dataset = datasets.load(given.dataset, data_root=given.data_root, offline=given.offline)
    if given.features == CLASSIFIER:
        kept.refuse_unlabelled(dataset)
    if dataset.channels is not None:
        raise UsageError(
            f"--dataset: {dataset.name!r} is drawn on the fly, so no fixed images can be changed; "
            f"use {dataset.channels.name}"
        )
    if given.command == "train":
        _write(_out(given.out, dataset.name), classifier.trained(dataset))
    else:
        with TemporaryDirectory(prefix="gan-bench-sensitivity-") as cache:
            _sensitivity(dataset, given.features, Path(cache))
    return 0


def _write(out: Path, entry: tuple[dict[str, Tensor], dict[str, Any]]) -> None:
    from bench.store import cache as entries

    tensors, record = entry
    entries.write(out, tensors, record)
    print(f"{out}.safetensors: right about {record['accuracy']:.2%} of its test images")


def _sensitivity(dataset: Dataset, name: str, cache: Path) -> None:
    """Print the scores of changed real images against the test split, as a markdown table."""
    import torch

    from bench.scoring.evaluator import Evaluator
    from bench.scoring.extractors import load_extractor
    from bench.scoring.sensitivity import changes, divided

    extractor = load_extractor(name, dataset, cache=cache)
    trained, fresh = divided(dataset)
    evaluator = Evaluator(trained, "test", {name: extractor}, cache, torch.device("cpu"))
    n = evaluator.n_fake
    print(
        f"{n:,} images of {dataset.name}, changed, against the {len(dataset.test):,} test images. They are "
        f"from one half of the training split; the other half, {len(trained.train):,} images, is what scores "
        "of memorisation compare with.\n"
    )
    shown: list[Score] = []
    for change, pixels in changes(trained, fresh, n):
        print(f"scoring: {change}", file=sys.stderr)
        images = torch.from_numpy(pixels)
        features = extractor(images)
        found = evaluator.scores(name, images, features, seed=0)
        found |= evaluator.memorisation(name, features)
        if not shown:
            shown = [score for score in (*SCORES, *MEMORISATION) if score.name in found]
            print(f"| {' | '.join(['change', *(score.label for score in shown)])} |")
            print(f"|---|{'---:|' * len(shown)}")
        values = [found[score.name] * score.factor for score in shown]
        print(f"| {' | '.join([change, *map(_rounded, values)])} |", flush=True)


def _rounded(value: float) -> str:
    """Three digits, but whole numbers in full; nothing below a ten-thousandth."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{round(value, 4):.3g}"


def _out(given: str | None, dataset: str) -> Path:
    """The path of the weights, without suffix. Only a checkout has a default, not an installed package."""
    from bench.scoring.kept import SHIPPED, SHIPPED_NAMES

    if given is None:
        if dataset in (*SHIPPED_NAMES, GENERIC) and (SHIPPED.parents[2] / "pyproject.toml").exists():
            return SHIPPED / dataset
        raise UsageError("--out: name a FILE; only digits, mnist and generic in a checkout have a default")
    out = Path(given)
    if not out.name or out.is_dir():
        raise UsageError(f"--out: {given!r} is not allowed; give the name of a file")
    return out.with_suffix("")


if __name__ == "__main__":
    run_main(main)
