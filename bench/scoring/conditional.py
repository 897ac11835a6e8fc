"""Scores of conditional models, which are asked for a class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from bench.scoring.features import Features

PER_DIMENSION = 2
"""Images per feature dimension that a class needs for an FID of its own. With fewer, the estimate of its
covariance is mostly bias."""


def conditional_scores(real: Features, fake: Features, labels: Tensor) -> dict[str, float]:
    """Scores of fakes that were asked for ``labels`` (N,), which are also those of the real images.

    - ``cond_accuracy``: the fraction of fakes that the data set's classifier assigns to the label asked for.
    - ``class_fid``: the mean over classes of the FID within a class. It is left out where a class has fewer
      than 2·D images.
    """
    from bench.scoring import fidelity
    from bench.scoring.determinism import scoring

    labels = labels.cpu()
    agreed = (fake.logits.argmax(dim=1) == labels).double().mean().item()
    scores = {"cond_accuracy": agreed}
    counts = np.bincount(labels.numpy())
    if counts.min() >= PER_DIMENSION * fake.features.shape[1]:
        with scoring():
            each = [
                fidelity.fid(
                    fidelity.moments(fake.features[labels == k]), fidelity.moments(real.features[labels == k])
                )
                for k in range(len(counts))
            ]
        scores["class_fid"] = float(np.mean(each))
    return scores
