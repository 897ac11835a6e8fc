"""Can seeds of a model train together, as one stack? If not, they train one at a time.

``conformance`` makes these checks; ``bench`` makes the first two before it stacks runs.
``docs/writing-losses.md`` has the rules that a loss keeps to be stackable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from baselines import registry
from baselines.gan import DataSpec, Gan, Optimizer
from baselines.probe import Lab, carried_out, copied, random_examples, state
from baselines.training import settings
from baselines.training.lanes import may_differ
from baselines.training.optim import make_optimizer

BATCH_SIZE = 8
ABSOLUTE, RELATIVE = 2e-6, 1e-3
"""A seed may give other numbers in a stack than alone, because float32 sums have another order there. After
one iteration with small SGD steps a tensor may differ by ABSOLUTE + RELATIVE × its largest change."""
PAIRS = ((0, 1), (2, 3), (4, 5))
"""Seeds. A rounding error can move an activation across a kink, but hardly for three pairs of seeds."""

REMEDIES = {
    ".item()": "choose with torch.where, not with if or .item()",
    "data-dependent control flow": "choose with torch.where, not with if",
    "requires_grad_": "take gradients with torch.func.grad",
    "does not require grad": "take gradients with torch.func.grad",
    "have storage": "compute with PyTorch; the tensors of a stack have no NumPy arrays",
    "randomness error mode": "declare the noise",
    "dynamic shape": "weight the examples with a mask of 0 and 1 instead of selecting some",
    "inplace arithmetic": "do not write a seed's values into a tensor that all seeds share",
}
"""Part of a message of ``torch.vmap`` -> what to do instead."""


@dataclass(frozen=True)
class FullLab(Lab):
    """A lab that can also make the model with other hyperparameters."""

    make: Callable[..., Gan] = field(kw_only=True)
    """The factory."""
    hyper: Mapping[str, Any] = field(kw_only=True)
    """All hyperparameters."""


def with_batch_size(factory: Callable[..., Gan], batch_size: int) -> Callable[..., Gan]:
    """The factory of the same model with another batch size. It leaves the process's settings alone."""

    def make(data: DataSpec, /, **hyper: Any) -> Gan:
        with settings.kept():
            return replace(factory(data, **hyper), batch_size=batch_size)

    return make


def why_not(factory: Callable[..., Gan], data: DataSpec, hyper: Mapping[str, Any]) -> str | None:
    """Why seeds of a model that trains alone cannot train as one stack; None where they can."""
    labelled = "label" in registry.card(factory).needs
    found: list[str] = []
    with settings.isolated():
        gan = factory(data, **hyper)
    for size in sorted({min(BATCH_SIZE, gan.batch_size), gan.batch_size}):
        lab = Lab(replace(gan, batch_size=size), *random_examples(data, labelled=labelled), data)
        found = [problem for check in (check_stack, check_optimizers) for problem in tried(check, lab)]
        if not found:
            return None
    return found[0]


def tried(check: Callable[..., Iterator[str]], lab: Lab) -> list[str]:
    """What a check of this file finds, with a remedy where PyTorch's message has none."""
    found = carried_out(check, lab)
    return [
        problem + "".join(f": {do}" for part, do in REMEDIES.items() if part in problem) for problem in found
    ]


def check_stack(lab: Lab) -> Iterator[str]:
    """Training a stack of seeds."""
    gan = _with_sgd(lab.gan)
    if gap := _least_gap(lab, (gan, gan)):
        yield f"seed {gap}: keep whatever differs between seeds in parameters and buffers"


def check_optimizers(lab: Lab) -> Iterator[str]:
    """Optimizing a stack of seeds."""
    rng = torch.Generator().manual_seed(0)
    start, slope = torch.randn(2, 3, 4, generator=rng), torch.randn(2, 3, 4, generator=rng)
    slope[1] *= 10
    for name, optim in lab.gan.optim.items():
        stacked = _optimized(optim, start, slope)
        lanes = [_optimized(optim, *pair) for pair in zip(start, slope, strict=True)]
        if not torch.allclose(stacked, torch.stack(lanes), atol=1e-6):
            yield f"the optimizer of {name!r} mixes the seeds of a stack: it must work element by element"


def check_lanes(lab: FullLab) -> Iterator[str]:
    """Training a stack whose seeds differ in numbers."""
    other = dict(lab.hyper)
    for name, value in lab.hyper.items():
        half = value / 2 if isinstance(value, float) else value
        with suppress(ValueError):  # refused
            if may_differ(lab.make, lab.data, lab.hyper, name, half):
                other[name] = half
    if not _lanes_gap(lab, other):
        return
    for name in (name for name in other if other[name] != lab.hyper[name]):
        if gap := _lanes_gap(lab, {**lab.hyper, name: other[name]}):
            yield (
                f"{name} changes an optimizer or a number of a loss, and something else too, so that a stack "
                f"cannot hold two values of it: seed {gap}"
            )


def _lanes_gap(lab: FullLab, other: Mapping[str, Any]) -> str:
    """Where a stack of seeds with the lab's hyperparameters and with others differs from these alone."""
    return _least_gap(lab, [_with_sgd(lab.make(lab.data, **hyper)) for hyper in (lab.hyper, other)])


def _least_gap(lab: Lab, gans: Sequence[Gan]) -> str:
    """Like :func:`_stack_gap`; empty if any pair of seeds has none."""
    found = ""
    for seeds in PAIRS:
        found = _stack_gap(lab, seeds, gans)
        if not found:
            break
    return found


def _with_sgd(gan: Gan) -> Gan:
    return replace(gan, optim={name: SGD() for name in gan.optim})


def _stack_gap(lab: Lab, seeds: tuple[int, ...], gans: Sequence[Gan]) -> str:
    """In which tensor a stack's step differs from that of each seed alone; empty if in none."""
    stack = lab.trainer(*seeds, gan=gans[0], lanes=gans)
    stack.advance(1)
    for lane, (seed, gan) in enumerate(zip(seeds, gans, strict=True)):
        solo = lab.trainer(seed, gan=gan)
        before = copied(state(solo))
        solo.advance(1)
        stacked = state(stack, lane)
        for key, alone in state(solo).items():
            gap = (alone - stacked[key]).abs().max()
            allowed = ABSOLUTE + RELATIVE * (alone - before[key]).abs().max()
            if gap > (allowed if alone.is_floating_point() else 0):
                return f"{seed} alone and in a stack differ in {key} by {gap:.2g} after one iteration"
    return ""


@dataclass(frozen=True)
class SGD:
    """Plain gradient descent. Unlike Adam, it does not amplify rounding errors."""

    lr: float = 1e-3

    def make(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(list(params), self.lr)


def _optimized(optim: Optimizer, start: Tensor, slope: Tensor) -> Tensor:
    param = start.clone().requires_grad_()
    optimizer = make_optimizer(optim, [param])
    for _ in range(2):
        param.grad = slope.clone()
        optimizer.step()
    return param.detach()
