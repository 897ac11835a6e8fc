"""Features and scores are computed in the same arithmetic, whatever the process has set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info

from bench.scoring.determinism import scoring

FRESH_PROCESS = """
import hashlib, json, sys
from pathlib import Path

import torch

from bench.data import datasets
from bench.scoring import classifier, metrics
from bench.scoring.extractors import load_extractor
from bench.scoring.features import Features

def digest(*tensors):
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()

digits = datasets.load("digits", data_root=Path("nowhere"))
extractor = load_extractor("classifier", digits, cache=Path("nowhere"))
found = extractor(torch.from_numpy(digits.test.images))
rng = torch.Generator().manual_seed(0)
both = torch.randn(2, 64, 256, generator=rng)
real, fake = (Features(features, features[:, :10]) for features in both)
print(json.dumps({
    "threads": torch.get_num_threads(),
    "weights": digest(*classifier.train(digits, steps=3).values()),
    "features": digest(found.features, found.logits),
    "scores": metrics.score(real, fake, seed=0),
}))
"""


@pytest.mark.slow
def test_threads_change_neither_classifiers_nor_features_nor_scores() -> None:
    """As users set them, and as workers and the planning process have them."""
    found = []
    for n in (1, 2):
        threads = {f"{name}_NUM_THREADS": str(n) for name in ("OMP", "OPENBLAS", "MKL")}
        done = subprocess.run(
            [sys.executable, "-c", FRESH_PROCESS],
            cwd=Path(__file__).parents[3],
            env={**os.environ, **threads},
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(json.loads(done.stdout))
    one, two = found
    assert (one.pop("threads"), two.pop("threads")) == (1, 2)
    assert one == two


def test_scoring_is_in_true_float32_on_one_thread_and_puts_back_what_it_found() -> None:
    from baselines.training import settings

    backends = torch.backends
    before = settings.read()
    try:
        torch.set_float32_matmul_precision("medium")
        torch.set_num_threads(2)
        changed = settings.read()
        with suppress(KeyError), scoring():
            assert torch.get_num_threads() == 1
            assert torch.get_float32_matmul_precision() == "highest"
            assert (backends.cudnn.conv.fp32_precision, backends.cudnn.allow_tf32) == ("none", False)
            assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
            raise KeyError
        assert settings.read() == changed
    finally:
        settings.put(before)
