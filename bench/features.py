"""Train the classifiers on whose features scores are computed.

python -m bench.features train --dataset mnist        trains the classifier that comes with the package
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.cli import Parser, chosen, run_main
from bench.errors import UsageError


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="bench.features", description=main.__doc__)
    p.add_argument("command", type=chosen(("train",)), metavar="train")
    p.add_argument("--dataset", required=True, metavar="NAME", help="as for bench.run")
    p.add_argument("--data-root", type=Path, default=Path("data"), metavar="DIR")
    p.add_argument("--offline", action="store_true", help="never use the network")
    p.add_argument(
        "--out",
        metavar="FILE",
        help="write FILE.safetensors and FILE.json; in a checkout the default is bench/scoring/weights",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Train a classifier in the same way as the classifiers that come with the package."""
    given = parser().parse(argv)

    from bench.data import datasets
    from bench.scoring import classifier
    from bench.store import cache as entries

    dataset = datasets.load(given.dataset, data_root=given.data_root, offline=given.offline)
    classifier.refuse_unlabelled(dataset)
    out = _out(given.out, dataset.name)
    tensors, record = classifier.trained(dataset)
    entries.write(out, tensors, record)
    print(f"{out}.safetensors: right about {record['accuracy']:.2%} of {len(dataset.test)} test images")
    return 0


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
