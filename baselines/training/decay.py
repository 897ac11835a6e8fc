"""Learning rates that fall to zero over the planned length of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from baselines.gan import Decay


def factor(decay: Decay, step: int, steps: int) -> float:
    """What the learning rate is multiplied by in iteration ``step``, counted from 0, of ``steps``.

    The first iteration has the whole rate. After the last one, it would be 0.
    """
    done = min(step / steps, 1.0)
    if decay == "linear":
        return 1 - done
    return 0.5 * (1 + math.cos(math.pi * done)) if decay == "cosine" else 1.0


class Schedule:
    """Sets the learning rates of optimizers before each iteration. It has no state but the step.

    Args:
        steps: the planned length of the run.
        as_tensors: keep each rate in a tensor on the optimizer's device, where a CUDA graph reads it.

    Raises:
        ValueError: there is no planned length, or an optimizer has no ``lr``.
    """

    def __init__(
        self,
        decay: Decay,
        steps: int | None,
        optimizers: Iterable[torch.optim.Optimizer],
        *,
        as_tensors: bool = False,
    ) -> None:
        if steps is None:
            raise ValueError(f"decay={decay} needs the planned number of iterations")
        self.decay, self.steps = decay, steps
        self.groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        if any("lr" not in group for group in self.groups):
            raise ValueError(f"decay={decay} needs optimizers with a learning rate, lr")
        self.rates = [float(group["lr"]) for group in self.groups]
        if as_tensors:
            for group, rate in zip(self.groups, self.rates, strict=True):
                group["lr"] = torch.tensor(rate, device=group["params"][0].device)

    def set(self, step: int) -> None:
        """Set the rates of iteration ``step``, counted from 0."""
        by = factor(self.decay, step, self.steps)
        for group, rate in zip(self.groups, self.rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * by)
            else:
                group["lr"] = rate * by
