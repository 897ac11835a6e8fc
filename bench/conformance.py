"""Checks that a user's own extractor, data set or score keeps what its interface promises.

    python -m bench.conformance features mypkg.nets:mynet
    python -m bench.conformance dataset mypkg.data:mydata --data-root data
    python -m bench.conformance score mypkg.scores:myscore

prints what is wrong. Exit codes: 0 all fine, 1 something is wrong with it, 2 the request was wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.cli import Parser, chosen, path, run_main
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.data.datasets import Dataset
    from bench.scoring.own_scores import OwnScore

SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32))
N_IMAGES = 12
RELATIVE, ABSOLUTE = 1e-3, 1e-4
"""Features of one image may differ by so much, of their deviation and of the largest one, between batches of
different sizes: float32 sums have another order there."""


Found = Iterator[tuple[str, list[str] | None]]
"""What was looked at, and what is wrong with it; None where it is refused, as it may be."""


def features(name: str, data_root: Path) -> Found:
    """What is wrong with an extractor on images of each shape."""
    for shape in SHAPES:
        where = "x".join(map(str, shape))
        try:
            yield where, list(_features(name, _noise(shape)))
        except UsageError as error:
            refused = isinstance(error.__cause__, ValueError)
            yield where, None if refused else [str(error).removeprefix(f"--features: {name} ")]


def _features(name: str, dataset: Dataset) -> Iterator[str]:
    import torch

    from bench.scoring.extractors import load_extractor

    images = torch.from_numpy(dataset.train.images.copy())
    extractor = load_extractor(name, dataset, cache=Path("unused"))
    whole = extractor(images, N_IMAGES)
    if not np.array_equal(images.numpy(), dataset.train.images):
        yield "it changes the images that it is given"
        images = torch.from_numpy(dataset.train.images.copy())
    parts = {"features": whole.features} | ({} if whole.logits is None else {"logits": whole.logits})
    again, single = extractor(images, N_IMAGES), extractor(images, 1)
    fresh = load_extractor(name, dataset, cache=Path("unused"))
    anew = fresh(images, N_IMAGES)
    for what, values in parts.items():
        if not values.isfinite().all():
            yield f"the {what} of noise are not all finite"
            continue
        if float(values.std(dim=0).max()) == 0:
            yield f"the {what} of {N_IMAGES} different images are all equal"
        close = RELATIVE * values.std() + ABSOLUTE * values.abs().max()
        for said, other in (
            ("computed a second time, differ from the first", again),
            ("of an image depend on the batch that it comes in", single),
            ("of a second copy of the extractor differ: seed what is drawn, or load its weights", anew),
        ):
            found = getattr(other, what)
            if found is None or found.shape != values.shape or (found - values).abs().max() > close:
                yield f"the {what} {said}"
    if fresh.sha256 != extractor.sha256:
        yield "a second copy has other parameters or buffers, so that no run could be repeated"


def _noise(shape: tuple[int, int, int]) -> Dataset:
    from bench.data.datasets import Dataset, Images

    images = np.random.default_rng(0).integers(0, 256, (N_IMAGES, *shape), dtype=np.uint8)
    noise = Images(images, np.arange(N_IMAGES) % 3)
    return Dataset("noise", noise, None, noise, 3, sha256="0" * 64)


def dataset(name: str, data_root: Path) -> Found:
    """What is wrong with a data set."""
    from bench.data import datasets

    try:
        first = datasets.load(name, data_root=data_root, offline=True)
        second = datasets.load(name, data_root=data_root, offline=True)
    except UsageError as error:
        yield name, [str(error).removeprefix(f"--dataset {name!r}: ")]
        return
    yield _described(first), list(_dataset(first, second))


def _described(found: Dataset) -> str:
    shape = "x".join(map(str, found.shape))
    labels = f"{found.n_classes} classes" if found.n_classes else "no labels"
    return f"{len(found.train):,} training and {len(found.test):,} test images, {shape}, {labels}"


def _dataset(first: Dataset, second: Dataset) -> Iterator[str]:
    if first.sha256 != second.sha256:
        yield "loaded a second time it has other images, labels or splits: seed what is drawn"
    seen = {image.tobytes() for image in first.train.images}
    twice = sum(image.tobytes() in seen for image in first.test.images)
    if twice:
        yield f"{twice} of {len(first.test)} test images are training images, too"
    for side, part in (("training", first.train), ("test", first.test)):
        if part.labels is not None:
            counts = np.bincount(part.labels, minlength=first.n_classes)
            lacking = np.flatnonzero(counts == 0).tolist()
            if lacking:
                yield f"its {side} split has no image of class {', '.join(map(str, lacking))}"


def score(name: str, data_root: Path) -> Found:
    """What is wrong with a score, of features of noise."""
    from bench.scoring.own_scores import load

    own = load(name)
    yield f"{own.score.label}, {own.score.better} is better", list(_score(own))


def _score(own: OwnScore) -> Iterator[str]:
    import torch

    from bench.scoring.features import Features
    from bench.scoring.metrics import ScoreError

    rng = torch.Generator().manual_seed(0)
    real, fake = (Features(torch.randn(n, 6, generator=rng), None) for n in (40, 60))
    before = real.features.clone(), fake.features.clone()
    order = np.random.default_rng(0).permutation(len(fake))
    collapsed = fake[np.zeros(len(fake), dtype=np.intp)]
    values = []
    for what, samples in (
        ("samples", fake),
        ("the same samples again", fake),
        ("the same samples in another order", fake[order]),
        ("samples that are all equal", collapsed),
    ):
        try:
            values.append(own(real, samples))
        except ScoreError as error:
            yield f"of {what}, and without logits: {error}"
            return
    first, again, permuted, _ = values
    if first != again:
        yield f"it gives {first:g} and then {again:g} for the same samples: seed what is drawn"
    elif abs(first - permuted) > RELATIVE * abs(first):
        yield f"it gives {first:g} and, for the same samples in another order, {permuted:g}"
    if not (torch.equal(real.features, before[0]) and torch.equal(fake.features, before[1])):
        yield "it changes the features that it is given"


CHECKS: Mapping[str, Callable[[str, Path], Found]] = {
    "features": features,
    "dataset": dataset,
    "score": score,
}
FLAGS = {"features": "--features", "dataset": "--dataset", "score": "--scores"}
"""Kind -> the flag of ``bench.run`` that takes such a thing."""


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="bench.conformance", description=__doc__)
    p.add_argument("kind", type=chosen(tuple(CHECKS)), metavar="|".join(CHECKS))
    p.add_argument("name", metavar="NAME", help="module:function, or the name of an entry point")
    p.add_argument("--data-root", type=path, default=Path("data"), metavar="DIR", help="of data sets")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Check one thing; returns the exit code."""
    from bench.identity import outside

    given = parser().parse(argv)
    outside.find(FLAGS[given.kind], given.name)
    print(given.name)
    found = list(CHECKS[given.kind](given.name, given.data_root))
    for where, problems in found:
        said = "not for these images" if problems is None else f"{len(problems)} problem(s)"
        print(f"  {where}: {said if problems is None or problems else 'fine'}")
        for problem in problems or ():
            print(f"    - {problem}")
    if all(problems is None for _, problems in found):
        print("    - no shape fits: it must take images of at least one of them")
        return 1
    return int(any(problems for _, problems in found))


if __name__ == "__main__":
    run_main(main)
