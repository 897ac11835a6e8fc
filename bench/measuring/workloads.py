"""The work that :mod:`bench.speed` times in worker processes. Images have random pixels.

Work is prepared under a name, and then timed by that name. Its unit is a *seed-step*, one training iteration
of one seed, unless another unit is named.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines import registry
from baselines.gan import DataSpec, Gan
from baselines.training.capture import WARM_UP, Captured
from baselines.training.trainer import Trainer
from bench.data.datasets import Dataset, Images
from bench.execution import environment
from bench.measuring.products import Products
from bench.measuring.textbook import lean, textbook


@dataclass(frozen=True)
class Sizes:
    """Those of a data set."""

    name: str
    shape: tuple[int, int, int]
    """(C, H, W)."""
    n_classes: int
    n_train: int
    n_test: int


MNIST = Sizes("mnist", (1, 28, 28), 10, 60_000, 10_000)

Work = Callable[[], float]
"""Does some work, and returns how many units were done when it has ended."""

_prepared: dict[str, Work] = {}


def time_it(name: str, seconds: float) -> tuple[float, float]:
    """Units per second of what was prepared under this name, and the processor seconds that it took."""
    used = time.process_time()
    work, done, start = _prepared[name], 0.0, time.perf_counter()
    while (taken := time.perf_counter() - start) < seconds:
        done += work()
    return done / taken, time.process_time() - used


def prepare(name: str, work: Work) -> None:
    """Keep work under a name. It is done once, to warm up."""
    work()
    _prepared[name] = work


# ------------------------------------------------------------------ training


def prepare_training(
    name: str, model: str, device: str, stack: int, sizes: Sizes = MNIST, capture: bool = True
) -> bool:
    """Train a stack of seeds as the runner does; returns whether it replays a CUDA graph."""
    _prepared.pop(name, None)
    environment.set_up(device)
    trainer = Trainer(gan(model, sizes), *data(device, sizes), range(stack), capture=capture)
    trainer.advance(WARM_UP)
    n_steps = 10 if device == "cpu" else 50

    def work() -> float:
        trainer.advance(n_steps)
        return n_steps * stack

    prepare(name, work)
    return trainer.captured


def try_stack(
    model: str, device: str, stack: int, seconds: float, sizes: Sizes = MNIST
) -> dict[str, Any] | None:
    """Seed-steps/s of a stack, eager and as a CUDA graph, and the peak memory of the graph.

    The result is ``None`` where the stack does not fit into memory. The rate of the graph is ``None`` where
    the model cannot be recorded as one.
    """
    row: dict[str, Any] = {"stack": stack}
    try:
        for name, capture in (("eager", False), ("captured", True)):
            replays = prepare_training("stack", model, device, stack, sizes, capture)
            row[name] = time_it("stack", seconds)[0] if replays or not capture else None
            row["peak_memory_mb"] = environment.peak_memory_mb(device)
    except torch.OutOfMemoryError:
        return None
    finally:
        _prepared.pop("stack", None)
    return row


def prepare_textbook(model: str, device: str, sizes: Sizes = MNIST) -> int:
    """Prepare the textbook loop; returns how many threads it has."""
    prepare("textbook", _iteration_of(textbook(gan(model, sizes), *data("cpu", sizes), device)))
    return torch.get_num_threads()


def prepare_lean(model: str, device: str, sizes: Sizes = MNIST) -> None:
    """Prepare the lean loop."""
    prepare("lean", _iteration_of(lean(gan(model, sizes), *data("cpu", sizes), device)))


def _iteration_of(loop: Iterator[object]) -> Work:
    def iteration() -> float:
        next(loop)
        return 1

    return iteration


# ------------------------------------------------------------------ arithmetic


def count(model: str, sizes: Sizes = MNIST) -> dict[str, int]:
    """``flops`` and ``products`` of one training iteration of one seed, counted while it runs."""
    trainer = Trainer(gan(model, sizes), *data("cpu", sizes), [0])
    with Products() as products:
        trainer.advance(1)
    return {"flops": products.flops, "products": len(products.calls)}


def prepare_products(model: str, device: str, stack: int, sizes: Sizes = MNIST) -> None:
    """Prepare ``products`` and ``square``.

    ``products``, in seed-steps: the products of an iteration and nothing else, in its order and on its
    operands. ``square``, in floating-point operations: one large square product.
    """
    environment.set_up(device)
    trainer = Trainer(gan(model, sizes), *data(device, sizes), range(stack), capture=False)
    with Products() as products:
        trainer.advance(1)
    n = 1024 if device == "cpu" else 8192
    a, b = (torch.rand(n, n, device=device) for _ in range(2))
    play = products if device == "cpu" else _captured(products, device)

    def many(work: Callable[[], object], units: float) -> Work:
        def repeated() -> float:
            for _ in range(10):
                work()
            if device != "cpu":
                torch.cuda.synchronize(device)
            return 10 * units

        return repeated

    prepare("products", many(play, stack))
    prepare("square", many(lambda: a @ b, 2 * n**3))


def _captured(work: Callable[[], object], device: str) -> Callable[[], object]:
    def without_logs(_: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
        work()
        return []

    graph = Captured(without_logs, torch.device(device))
    return lambda: graph({})


# ------------------------------------------------------------------ scoring


def time_scores(model: str, device: str, sizes: Sizes = MNIST) -> dict[str, float]:
    """Seconds to score a generator, with as many samples as the data set has in scores: ``n_fake``.

    By the data set's classifier where it comes with the package, else by the generic extractor.

    ``score_s``: sampling, features and metrics, with the features of real images given. ``metrics_s``:
    metrics alone.
    """
    from bench.scoring import kept, metrics
    from bench.scoring.evaluator import Evaluator
    from bench.scoring.extractors import load_extractor

    environment.set_up(device)
    rng = np.random.default_rng(0)

    def noise(n: int) -> Images:
        images = rng.integers(0, 256, (n, *sizes.shape), np.uint8)
        return Images(images, rng.integers(0, sizes.n_classes, n) if sizes.n_classes else None)

    n_train = min(sizes.n_train, MNIST.n_test)
    dataset = Dataset(sizes.name, noise(n_train), None, noise(sizes.n_test), sizes.n_classes, sha256="")
    name = kept.CLASSIFIER if sizes.name in kept.SHIPPED_NAMES else kept.GENERIC
    with tempfile.TemporaryDirectory() as cache:
        extractor = load_extractor(name, dataset, cache=Path(cache), device=device)
        evaluator = Evaluator(dataset, "test", {name: extractor}, Path(cache), torch.device(device))
    trainer = Trainer(gan(model, sizes), *data(device, sizes), [0])
    evaluator.evaluate(trainer.gan, trainer.nets(), seed=0)  # computes what depends on the real images alone
    start = time.perf_counter()
    images = evaluator.evaluate(trainer.gan, trainer.nets(), seed=0).images
    scored = time.perf_counter() - start
    features = extractor(images)
    start = time.perf_counter()
    metrics.score(evaluator.real[name], features, seed=0)
    return {"n_fake": len(images), "score_s": scored, "metrics_s": time.perf_counter() - start}


# ------------------------------------------------------------------ shared


def gan(model: str, sizes: Sizes = MNIST) -> Gan:
    """The model with its defaults."""
    return registry.get(model)(DataSpec(*sizes.shape, n_classes=sizes.n_classes))


@cache
def data(device: str, sizes: Sizes = MNIST) -> tuple[Tensor, Tensor]:
    """As many images as the data set has, uint8 (N, C, H, W), and labels (N,)."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (sizes.n_train, *sizes.shape), dtype=torch.uint8, generator=rng)
    labels = torch.randint(max(1, sizes.n_classes), (sizes.n_train,), generator=rng)
    return images.to(device), labels.to(device)


def describe(device: str) -> dict[str, Any]:
    """The environment as records have it, of this process."""
    environment.set_up(device)
    return environment.describe(device)
