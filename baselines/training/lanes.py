"""Which hyperparameters may differ between the lanes of one stack.

A stack trains several runs together; a *lane* is one run's slice of it, along the first axis of its tensors.
Lanes may differ in seed, in ``Gan.ema``, and in numbers of optimizers and losses: a learning rate, a beta,
the weight of a penalty. Such a hyperparameter is used in ``Gan.optim`` or in a keyword of a ``partial`` loss,
and nowhere else. ``conformance`` checks that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from baselines.gan import DataSpec, Gan, Loss


def keywords(loss: Loss) -> dict[str, float]:
    """The float keywords of a ``partial`` loss."""
    given = loss.keywords if isinstance(loss, partial) else {}
    return {name: value for name, value in given.items() if isinstance(value, float)}


def differing(losses: Sequence[Loss], device: torch.device) -> dict[str, Tensor]:
    """The keywords in which the losses of S lanes differ, as a tensor (S,) each."""
    lanes = [keywords(loss) for loss in losses]
    return {
        name: torch.tensor([lane[name] for lane in lanes], device=device)
        for name in lanes[0]
        if len({lane[name] for lane in lanes}) > 1
    }


def may_differ(
    factory: Callable[..., Gan], data: DataSpec, hyper: Mapping[str, Any], name: str, value: Any
) -> bool:
    """Whether runs with ``hyper``, and with ``value`` for the hyperparameter ``name``, can be one stack."""
    if value == hyper[name] or not isinstance(value, float):
        return bool(value == hyper[name])
    a, b = factory(data, **hyper), factory(data, **{**hyper, name: value})
    return _numbers(a) != _numbers(b) and _losses(a) == _losses(b)


def stackable(
    factory: Callable[..., Gan], data: DataSpec, a: Mapping[str, Any], b: Mapping[str, Any]
) -> bool:
    """Whether runs with these two sets of hyperparameters can be one stack."""
    return all(may_differ(factory, data, a, name, b[name]) for name in a)


def _numbers(gan: Gan) -> tuple[Any, ...]:
    return gan.optim, gan.ema, [keywords(update.loss) for update in gan.updates]


def _losses(gan: Gan) -> list[tuple[str, ...]]:
    """The keywords of each loss. Where they differ, so do the losses: one of them has a penalty more."""
    return [tuple(keywords(update.loss)) for update in gan.updates]
