"""How many samples, subsets and neighbours the scores take: what a protocol records of them.

A plan reads this file, so it imports no PyTorch.
"""

from __future__ import annotations

FAKES_PER_REAL = 10
MOST_FAKES = 10_000
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000
"""Or half of the images, where that is less."""
ISC_SPLITS = 10
PRC_K = 3
NEIGHBOURS = 5
"""k of density and coverage, as in the paper."""
CELLS = 3
"""Of C_T. This, 20 samples and 64 dimensions are the settings of Stein et al. 2023, arXiv:2306.04675."""


def n_fakes(n_real: int) -> int:
    """How many samples are scored against so many real images: ten times as many, but at most 10,000.

    Where there are 10,000 real images or more, there are as many samples. Beyond ten times as many, what is
    left of a score's error comes from the real images, and more samples would not change it.
    """
    return max(n_real, min(FAKES_PER_REAL * n_real, MOST_FAKES))


def kid_subset_size(n: int) -> int:
    """Of so many images."""
    return min(KID_SUBSET_SIZE, n // 2)


def protocol(n_real: int) -> dict[str, int]:
    """The settings of scores against so many real images, for the record."""
    return {
        "n_fake": n_fakes(n_real),
        "n_real": n_real,
        "kid_subset_size": kid_subset_size(n_real),
        "kid_subsets": KID_SUBSETS,
        "isc_splits": ISC_SPLITS,
        "prc_k": PRC_K,
    }


def protocol_of_memorisation(n_train: int) -> dict[str, int]:
    """The settings of those scores against so many training images, for the record."""
    return {"n_train": n_train, "neighbours": NEIGHBOURS, "cells": CELLS}
