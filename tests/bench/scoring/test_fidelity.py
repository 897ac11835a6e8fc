"""torch-fidelity's functions, and what replaces those that another version of it may lack."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from bench.scoring import fidelity, metrics
from bench.scoring.conditional import conditional_scores
from bench.scoring.features import Features


def cloud(n: int, seed: int) -> Features:
    rng = np.random.RandomState(seed)
    features, logits = (rng.standard_normal((n, 6)).astype(np.float32) for _ in range(2))
    return Features(torch.from_numpy(features), torch.from_numpy(3 * logits))


@pytest.mark.parametrize("gone", [("fid",), ("isc",), ("kid",), ("fid", "isc", "kid")])
def test_without_an_undocumented_function_the_documented_way_gives_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, gone: tuple[str, ...]
) -> None:
    labels = torch.arange(60) % 2

    def scores() -> dict[str, float]:
        real, fake = cloud(80, seed=1), cloud(60, seed=2)  # anew: what depends on the real images is kept
        return {
            **metrics.score(real, fake, seed=7),
            **conditional_scores(cloud(60, seed=1), labels, fake, labels),
        }

    expected = scores()
    assert "class_fid" in expected
    for name in gone:
        monkeypatch.setitem(sys.modules, f"torch_fidelity.metric_{name}", None)
    assert scores() == expected


@pytest.mark.parametrize("missing", ["fid_features_to_statistics", "fid_statistics_to_metric"])
def test_without_one_of_the_two_functions_of_fid_neither_is_used(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    expected = metrics.score(cloud(80, seed=1), cloud(60, seed=2), seed=7)
    found = fidelity._undocumented
    monkeypatch.setattr(
        fidelity, "_undocumented", lambda module, name: None if name == missing else found(module, name)
    )
    assert metrics.score(cloud(80, seed=1), cloud(60, seed=2), seed=7) == expected
