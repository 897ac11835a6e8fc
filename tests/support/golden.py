"""Numbers that another version of a library must not change.

    PYTHONPATH=. python tests/support/golden.py        writes golden.json: look at the diff before a commit

What this project uses of PyTorch and torch-fidelity without their promise is held here by what it computes:
features of the shipped classifiers, scores of fixed arrays, and one training iteration of each model.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines import registry
from baselines.gan import DataSpec, Optimizer
from baselines.training import settings
from baselines.training.optim import make_optimizer
from baselines.training.step import DataBatch
from baselines.training.streams import draw
from baselines.training.trainer import Trainer
from bench.data.datasets import Dataset, Images
from bench.scoring import memorisation, metrics
from bench.scoring.conditional import conditional_scores
from bench.scoring.extractors import load_extractor
from bench.scoring.features import Features
from bench.scoring.superresolution import restoration_scores

FILE = Path(__file__).with_name("golden.json")
SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28)}
N, D, K = 60, 8, 10
N_STEPS = 2
MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{name: (name, {}) for name in registry.OURS},
    "sngan": ("sngan", {"width": 16}),
    "sngan_projection": ("sngan_projection", {"width": 16}),
    "nsgan conv": ("nsgan", {"net": "conv"}),
    "nsgan infogan": ("nsgan", {"net": "infogan", "prior": "uniform"}),
    "nsgan spectral": ("nsgan", {"disc_norm": "spectral"}),
    "wgan adam": ("wgan", {"optimizer": "adam"}),
    "cgan multiply": ("cgan", {"condition": "multiply", "dropout": 0.4}),
}


TOLERANCE = {
    "features": (1e-4, 1e-5),
    "scores": (1e-4, 1e-5),
    "first": (1e-6, 0.0),
    "optimizer": (1e-5, 0.0),
    "d_acc": (0.0, 0.04),
    "class_acc": (0.0, 0.04),
    "log": (1e-3, 2e-5),
    "moved": (1e-3, 1e-3),
    "statistics": (1e-3, 1e-5),
    "sampled": (1e-3, 1e-5),
    "judged": (1e-2, 1e-3),
}
"""Relative and absolute, by what the numbers are. Between the instruction sets of one CPU, from SSE 4.1 to
AVX-512, they differ by a fifth of that at most; one image in a batch of 32 may fall to the other side of D's
threshold."""


def images(*shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Noise on a slope. NumPy promises that this stream never changes."""
    noise = np.random.RandomState(0).randint(0, 128, shape)
    slope = np.linspace(0, 127, shape[-1]).astype(int)
    return (noise + slope).astype(np.uint8)


def features(name: str) -> dict[str, float]:
    """Of a shipped classifier."""
    pixels = images(N, *SHAPES[name])
    split = Images(pixels, np.arange(N) % K)
    dataset = Dataset(name, split, None, split, K, "")
    found = load_extractor("classifier", dataset, cache=Path("nowhere"))(torch.from_numpy(pixels))
    return {
        "first feature": found.features[0].double().max().item(),
        "features": found.features.double().abs().mean().item(),
        "logits": found.logits.double().mean().item(),
        "absolute logits": found.logits.double().abs().mean().item(),
        "class": float(found.logits.argmax(1).double().mean()),
    }


def scores() -> dict[str, float]:
    """Of two clouds of points, one shifted and stretched."""
    rng = np.random.RandomState(0)
    a, b = (torch.from_numpy(rng.standard_normal((N, D)).astype(np.float32)) for _ in range(2))
    logits = torch.from_numpy(3 * rng.standard_normal((2, N, K)).astype(np.float32))
    real, fake = Features(a, logits[0]), Features(1.2 * b + 0.3, logits[1])
    labels = torch.arange(N) % 2
    small, large = images(4, 1, 8, 8), images(4, 3, 16, 16)
    return {
        **metrics.score(real, fake, seed=0),
        **metrics.mode_coverage(fake.logits.argmax(1), np.arange(N) % K, K),
        **memorisation.scores(a, memorisation.prepare(a, b + 0.1), fake.features),
        **conditional_scores(real, labels, fake, labels),
        **{f"small {k}": v for k, v in restoration_scores(small // 2, small // 3, small).items()},
        **{f"large {k}": v for k, v in restoration_scores(large // 2, large // 3, large).items()},
    }


def iteration(name: str) -> dict[str, float]:
    """The first weights of a model, what its first iterations log, how far they move the weights, what it
    then samples and how it judges that."""
    model, hyper = MODELS[name]
    factory = registry.get(model)
    data = DataSpec(1, 8, 8, K)
    labels = torch.arange(N) % K if "label" in registry.card(factory).needs else None
    gan, pixels = factory(data, **hyper), torch.from_numpy(images(N, *data.shape))
    trainer = Trainer(gan, pixels, labels, [0])
    before = {net: _flat(held) for net, held in trainer.params.items() if held}
    trainer.advance(N_STEPS)
    found = {
        f"log {key} {step}": float(values[step])
        for key, values in trainer.history().items()
        for step in range(N_STEPS)
    }
    for net, first in before.items():
        moved = _flat(trainer.params[net]) - first
        buffers = [value for value in trainer.buffers[net].values() if value.is_floating_point()]
        found |= {
            f"first {net}": first.abs().mean().item(),
            f"moved {net}": 1e6 * moved.abs().mean().item(),
            f"statistics {net}": sum(value.double().abs().mean().item() for value in buffers),
            f"optimizer {net}": 1e6 * _optimized(gan.optim[net]),
        }
    batch = DataBatch(pixels, labels, torch.arange(N))
    noise = draw(gan.noise, (N,), torch.Generator().manual_seed(0))
    with torch.no_grad():
        sampled = gan.generate(trainer.nets(), batch, noise)
    found["sampled"] = sampled.double().abs().mean().item()
    if gan.discriminate is not None:
        with torch.no_grad():
            judged = gan.discriminate(trainer.nets(), {**batch, "image": sampled})
        found["judged"] = judged.double().mean().item()
    return found


def _optimized(optim: Optimizer) -> float:
    """How far two steps go on slopes from 1e-9 to 1: the first of Adam does not depend on its betas."""
    slopes = torch.logspace(-9, 0, 10)
    param = torch.zeros(10, requires_grad=True)
    optimizer = make_optimizer(optim, [param])
    for slope in (slopes, 2 * slopes.flip(0)):
        param.grad = slope
        optimizer.step()
    return param.detach().double().abs().mean().item()


def _flat(tensors: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([value.detach().double().flatten() for value in tensors.values()])


def computed() -> dict[str, dict[str, float]]:
    """All of them."""
    with settings.isolated():
        return {
            **{f"features {name}": features(name) for name in SHAPES},
            "scores": scores(),
            **{f"iteration {name}": iteration(name) for name in MODELS},
        }


if __name__ == "__main__":
    golden = {
        "command": "PYTHONPATH=. python tests/support/golden.py",
        "made_with": {name: version(name) for name in ("torch", "torch-fidelity", "numpy", "scikit-image")}
        | {"python": platform.python_version(), "cpu": torch.backends.cpu.get_cpu_capability()},
        "tolerance": TOLERANCE,
        "values": computed(),
    }
    FILE.write_text(json.dumps(golden, indent=1) + "\n")
