"""What is kept of a run on points in the plane, to be drawn: ``points.npz`` in its folder.

``steps`` (T,) and ``samples`` (T, n, 2), float32: the first of the samples that were scored at each
evaluation. The noise is the same at every step, so each sample can be followed. ``centres`` (K, 2) and
``sigma`` are those of the data's mixture: a report draws it without the data set.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bench.data.points import MIXTURES
from bench.store import files

NAME = "points.npz"
KEPT = 1_000
"""Samples of an evaluation: 8 kB."""


def add(folder: Path, dataset: str, step: int, samples: Tensor) -> None:
    """Add the samples (N, 2, 1, 1) of an evaluation to a run's film.

    What it holds of this step or later is replaced: a run that died goes on from an earlier step. A film that
    cannot be read is begun anew.
    """
    steps, before = _read(folder / NAME)
    earlier = steps < step
    now = samples[:KEPT].flatten(1).numpy()[None]
    mixture = MIXTURES[dataset]

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a name, NumPy would add .npz to it
            np.savez(
                file,
                steps=np.append(steps[earlier], step),
                samples=np.concatenate([before[earlier], now]) if earlier.any() else now,
                centres=np.array(mixture.centres),
                sigma=np.float64(mixture.sigma),
            )

    files.write_atomic(folder / NAME, write, durable=False)


def _read(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    try:
        with files.reading(path, most=math.inf) as file, np.load(file) as held:
            steps, samples = held["steps"], held["samples"]
            if len(steps) == len(samples) and samples.shape[1:] == (KEPT, 2):
                return steps, samples
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    return np.empty(0, np.int64), np.empty((0, KEPT, 2), np.float32)
