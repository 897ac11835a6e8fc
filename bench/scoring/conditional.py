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


def conditional_scores(
    real: Features, real_labels: Tensor, fake: Features, asked: Tensor
) -> dict[str, float]:
    """Scores of fakes that were asked for the labels ``asked`` (N,), against real images with theirs (M,).

    - ``cond_accuracy``: the fraction of fakes that the data set's classifier assigns to the label asked for.
    - ``class_fid``: the mean over classes of the FID within a class. It is left out where a class has fewer
      than 2·D images on either side.
    """
    from bench.scoring import fidelity
    from bench.scoring.determinism import scoring

    assert fake.logits is not None
    real_labels, asked = real_labels.cpu(), asked.cpu()
    scores = {"cond_accuracy": (fake.logits.argmax(dim=1) == asked).double().mean().item()}
    n_classes = 1 + int(max(real_labels.max(), asked.max()))
    fewest = min(np.bincount(side.numpy(), minlength=n_classes).min() for side in (real_labels, asked))
    if fewest >= PER_DIMENSION * fake.features.shape[1]:
        with scoring():
            each = [
                fidelity.fid(
                    fidelity.moments(fake.features[asked == k]),
                    fidelity.moments(real.features[real_labels == k]),
                )
                for k in range(n_classes)
            ]
        scores["class_fid"] = float(np.mean(each))
    return scores
