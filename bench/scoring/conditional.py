"""Scores of models that are asked for a class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from bench.scoring.extractors import Features

PER_DIMENSION = 2
"""A class has an FID of its own from this many images per feature dimension on: below, the estimate of
its covariance is mostly bias."""


def conditional_scores(real: Features, fake: Features, labels: Tensor) -> dict[str, float]:
    """Scores of fakes that were asked for ``labels`` (N,), which are also those of the real images.

    - ``cond_accuracy``: the share of fakes that the data set's classifier assigns to the label asked for.
    - ``class_fid``: the mean over classes of the FID within a class; left out where a class has fewer
      than 2·D images.
    """
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    from bench.scoring.arithmetic import scoring

    labels = labels.cpu()
    agreed = (fake.logits.argmax(dim=1) == labels).double().mean().item()
    scores = {"cond_accuracy": agreed}
    counts = np.bincount(labels.numpy())
    if counts.min() >= PER_DIMENSION * fake.features.shape[1]:
        each = []
        with scoring():
            for k in range(len(counts)):
                sides = [fid_features_to_statistics(side.features[labels == k]) for side in (fake, real)]
                each.append(fid_statistics_to_metric(*sides, verbose=False)["frechet_inception_distance"])
        scores["class_fid"] = float(np.mean(each))
    return scores
