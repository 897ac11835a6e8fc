"""How far FID on digits depends on the number of samples, and why the KID of real data is negative.

    python -m bench.run --models vanilla cgan --seeds 1 --dataset digits
    PYTHONPATH=. python tests/support/sampling_error.py results

prints the first two tables of "Small splits" in docs/reports.md: for each run, the FID of 100,800 samples of
its final weights, taken in draws of several sizes; and the KID of real images, over 400 splits of digits.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from baselines.training.step import to_uint8
from baselines.training.trainer import bind
from bench import verify
from bench.comparison import Verdict, stored_nets
from bench.data import datasets
from bench.execution.training import Stack
from bench.plan import RunContext
from bench.scoring import fidelity
from bench.scoring.determinism import scoring
from bench.scoring.extractors import load_extractor

SIZES = (360, 1000, 3600, 10_000)
N_DRAWS = 28
"""Of 3,600 samples each."""


def fid_against_samples(folder: Path, context: RunContext) -> None:
    """Print the mean and the deviation of FID over draws of each size."""
    planned = verify._planned(folder, context, scores_only=True)
    assert not isinstance(planned, Verdict), planned
    stack, weights = Stack([planned[1]], context), stored_nets(folder)
    evaluator, gan, seed = stack.evaluator("test"), stack.lanes[0].gan, planned[1].seed
    assert weights is not None
    nets, extractor = bind(stack.trainer.modules, weights), evaluator.extractors["classifier"]
    with torch.inference_mode():
        draws = [to_uint8(evaluator.sample(gan, nets, seed, k)) for k in range(N_DRAWS)]
    pool = extractor(torch.cat(draws)).features
    with scoring():
        real = fidelity.moments(evaluator.real["classifier"].features)
        for n in SIZES:
            parts = [part for part in torch.split(pool, n) if len(part) == n]
            fids = [fidelity.fid(fidelity.moments(part), real) for part in parts]
            deviation = np.std(fids, ddof=1)
            print(f"{planned[1].model} seed {seed}, {n:>6} samples: {np.mean(fids):.2f} ± {deviation:.2f}")


def kid(a: Tensor, b: Tensor) -> float:
    """KID ×10³ of all features (N, D) and (M, D), without subsets."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    sides = [(kernel(x, x), len(x)) for x in (a, b)]
    within = sum(float(k.sum() - k.trace()) / (n * (n - 1)) for k, n in sides)
    return 1e3 * (within - 2 * float(kernel(a, b).mean()))


def kid_of_real_images() -> None:
    """Print the mean and the deviation of KID between two parts of digits, split in three ways."""
    digits = datasets.load("digits", data_root=Path("unused"))
    extractor = load_extractor("classifier", digits, cache=Path("unused"))
    parts = (digits.train, digits.test)
    features = extractor(torch.from_numpy(np.concatenate([part.images for part in parts]))).features.double()
    labels = np.concatenate([part.labels for part in parts if part.labels is not None])
    rng = np.random.default_rng(0)

    def stratified(of: np.ndarray) -> np.ndarray:
        """360 of them, by class as :func:`bench.data.datasets.load` chooses."""
        shuffled = rng.permutation(of)
        by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
        return by_class[(2 * np.arange(360) + 1) * len(of) // 720]

    everything = np.arange(len(labels))
    for name in ("neither side stratified", "test stratified", "both sides stratified"):
        found = []
        for _ in range(400):
            test = rng.permutation(everything)[:360] if name.startswith("neither") else stratified(everything)
            others = np.setdiff1d(everything, test)
            train = stratified(others) if name.startswith("both") else rng.permutation(others)[:360]
            found.append(kid(features[train], features[test]))
        print(f"KID ×10³ of 360 real images, {name}: {np.mean(found):.0f} ± {np.std(found):.0f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for run in sorted(Path(sys.argv[1]).glob("runs/*-digits-*/seed-*")):
        fid_against_samples(run, RunContext(out=Path(sys.argv[1]), offline=True))
    kid_of_real_images()
