"""Images whose channels are drawn at random, each on its own: three digits make one of 1,000 modes.

Srivastava et al. 2017 (VEEGAN, arXiv:1705.07761) and Metz et al. 2017 (arXiv:1611.02163) stack digits of
MNIST. Training draws them on the fly from the training digits, so no stack is seen twice. Scores compare with
a fixed set of stacks of the split's own digits, in which every triple of classes is equally frequent.

M stacks, N digits, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from numpy.typing import NDArray

STACKED: Mapping[str, str] = {"stacked-digits": "digits", "stacked-mnist": "mnist"}
"""The data set -> the one that its channels come from."""

N_CHANNELS = 3
N_STACKS = 10_000
"""Of the reference. Each of the 1,000 triples stands in it ten times."""
SEED = 0


def stack(images: NDArray[np.uint8], index: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The stacks (M, C, H, W) of grey images (N, 1, H, W) at ``index`` (M, C)."""
    stacks: NDArray[np.uint8] = images[index, 0]
    return stacks


def balanced(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The digits of the reference (M, C): of labels (N,), with every triple of classes equally often.

    The order of stacks and the choice of digits are random, but fixed. Each digit of a class is used equally
    often, as far as that is possible.
    """
    random = np.random.RandomState(SEED)  # NumPy promises that this stream never changes
    n_classes = 1 + int(labels.max())
    triples = np.array(list(product(range(n_classes), repeat=N_CHANNELS)))
    triples = np.tile(triples, (max(1, N_STACKS // len(triples)), 1))
    triples = triples[random.permutation(len(triples))]
    index = np.empty(triples.shape, dtype=np.int64)
    for k in range(n_classes):
        places = triples == k
        index[places] = np.resize(random.permutation(np.flatnonzero(labels == k)), places.sum())
    return index
