"""The classifiers on whose features scores are computed: train one, or measure what its scores see.

python -m bench.features train --dataset mnist          trains the classifier that comes with the package
python -m bench.features sensitivity --dataset mnist    scores real images that were changed in known ways
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.cli import Parser, chosen, run_main
from bench.data.datasets import Dataset
from bench.errors import UsageError
from bench.scoring.scores import MEMORISATION, SCORES


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="bench.features", description=__doc__)
    p.add_argument("command", type=chosen(("train", "sensitivity")), metavar="train|sensitivity")
    p.add_argument("--dataset", required=True, metavar="NAME", help="as for bench.run")
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
    from bench.scoring import classifier

    if given.command == "sensitivity" and given.out is not None:
        raise UsageError("--out: only train writes files; sensitivity prints a table")
    dataset = datasets.load(given.dataset, data_root=given.data_root, offline=given.offline)
    classifier.refuse_unlabelled(dataset)
    if given.command == "train":
        _train(dataset, _out(given.out, dataset.name))
    else:
        with TemporaryDirectory(prefix="gan-bench-sensitivity-") as cache:
            _sensitivity(dataset, Path(cache))
    return 0


def _train(dataset: Dataset, out: Path) -> None:
    """Train a classifier in the same way as the classifiers that come with the package."""
    from bench.scoring import classifier
    from bench.store import cache as entries

    tensors, record = classifier.trained(dataset)
    entries.write(out, tensors, record)
    print(f"{out}.safetensors: right about {record['accuracy']:.2%} of {len(dataset.test)} test images")


def _sensitivity(dataset: Dataset, cache: Path) -> None:
    """Print the scores of changed real images against the test split, as a markdown table."""
    import torch

    from bench.scoring.evaluator import CLASSIFIER, Evaluator
    from bench.scoring.extractors import load_extractor
    from bench.scoring.sensitivity import changes, divided

    extractor = load_extractor(CLASSIFIER, dataset, cache=cache)
    trained, fresh = divided(dataset)
    evaluator = Evaluator(trained, "test", {CLASSIFIER: extractor}, cache, torch.device("cpu"))
    shown = [*(score for score in SCORES if score.needs in (None, "classes")), *MEMORISATION]
    n = evaluator.n_fake
    print(
        f"{n:,} images of {dataset.name}, changed, against the {len(dataset.test):,} test images. They are "
        f"from one half of the training split; the other half, {len(trained.train):,} images, is what scores "
        "of memorisation compare with.\n"
    )
    print(f"| {' | '.join(['change', *(score.label for score in shown)])} |")
    print(f"|---|{'---:|' * len(shown)}")
    for change, pixels in changes(trained, fresh, n):
        print(f"scoring: {change}", file=sys.stderr)
        images = torch.from_numpy(pixels)
        features = extractor(images)
        found = evaluator.scores(CLASSIFIER, images, features, seed=0)
        found |= evaluator.memorisation(CLASSIFIER, features)
        values = [found[score.name] * score.factor for score in shown]
        print(f"| {' | '.join([change, *map(_rounded, values)])} |", flush=True)


def _rounded(value: float) -> str:
    """Three digits, but whole numbers in full; nothing below a ten-thousandth."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{round(value, 4):.3g}"


def _out(given: str | None, dataset: str) -> Path:
    """The path of the weights, without suffix. Only a checkout has a default, not an installed package."""
    from bench.scoring.classifier import SHIPPED, SHIPPED_NAMES

    if given is None:
        if dataset in SHIPPED_NAMES and (SHIPPED.parents[2] / "pyproject.toml").exists():
            return SHIPPED / dataset
        raise UsageError("--out: name a FILE; only digits and mnist in a checkout have a default")
    out = Path(given)
    if not out.name or out.is_dir():
        raise UsageError(f"--out: {given!r} is not allowed; give the name of a file")
    return out.with_suffix("")


if __name__ == "__main__":
    run_main(main)
