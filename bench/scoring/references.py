"""What held-out images get: one half of the split, in place of samples, against the other half."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bench.scoring import memorisation, metrics, sizes
from bench.scoring.evaluator import BASELINE_DRAWS, CLASSIFIER, Draws, Evaluator
from bench.scoring.features import Extractor
from bench.store import cache as entries

PER_FEATURE = 10
"""Images per feature that a half needs for scores of fidelity. With three of them, on digits, FID is between
2 and 6, where ten times as many images have 0.4."""


def halves(evaluator: Evaluator) -> Draws:
    """The scores of one half of the evaluator's split against the other, in several random draws.

    It is what a perfect model would get, which makes fresh images of the same distribution. Scores of
    memorisation compare the first half with all training images; in C_T, the second half is held out.
    Coverage is left out: it grows with the number of samples, so half of a split says nothing about more of
    them. Scores of fidelity compare the halves with each other. They depend on the number of images, too,
    and have values only where a half has at least ten per feature.

    They are computed once per protocol and kept in the cache. A split of fewer than 20 images has none, nor
    have points in the plane and stacked digits: the scores of points need no other side, and fresh stacks of
    training digits are what a perfect model makes.
    """
    if len(evaluator) < 2 * sizes.ISC_SPLITS or evaluator.dataset.channels is not None:
        return {}
    return {name: _halves(evaluator, extractor) for name, extractor in evaluator.extractors.items()}


def _halves(evaluator: Evaluator, extractor: Extractor) -> dict[str, list[float]]:
    def compute() -> entries.Entry:
        found = [
            _scores(evaluator, extractor.name, *_split(len(evaluator), k)) for k in range(BASELINE_DRAWS)
        ]
        return {}, {"scores": {name: [one[name] for one in found] for name in found[0]}}

    _, record = entries.cached(evaluator.kept("halves", extractor), compute)
    scores: dict[str, list[float]] = record["scores"]
    return scores


def _split(n: int, k: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The numbers of the images of two halves of equal size, (n // 2,) each."""
    order = np.random.Generator(np.random.PCG64(k)).permutation(n)
    return order[: n // 2], order[n // 2 : 2 * (n // 2)]


def _scores(
    evaluator: Evaluator, name: str, ours: NDArray[np.intp], theirs: NDArray[np.intp]
) -> dict[str, float]:
    real = evaluator.real[name]
    fake = real[ours]
    known = evaluator.memorisation(name, fake, torch.from_numpy(theirs))
    for each in memorisation.GROW_WITH_N:
        del known[each]
    if len(ours) < PER_FEATURE * real.features.shape[1]:
        return known
    scores = metrics.score(real[theirs], fake, seed=0)
    labels, n_classes = evaluator.reference.labels, evaluator.dataset.n_classes
    if name == CLASSIFIER and evaluator.neighbours is not None and labels is not None:
        assert fake.logits is not None
        images = torch.from_numpy(evaluator.reference.images[ours])
        for judge, classes in (("", fake.logits.argmax(dim=1)), ("_knn", evaluator.neighbours(images))):
            scores |= metrics.mode_coverage(classes, labels[theirs], n_classes, judge)
    return scores | known
