"""Makes the optimizers that models declare, among them an Adam with little overhead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from baselines.gan import Adam, CustomOptimizer, Optimizer, RMSprop

KERNELS = ("_fused_adam_", "_foreach_add_")
"""Private functions of PyTorch that :class:`FusedAdam` calls. Without them PyTorch's own step is used."""

_add_param_group = torch.optim.Optimizer.add_param_group
_add_param_group = getattr(_add_param_group, "__wrapped__", _add_param_group)


def make_optimizer(optim: Optimizer, params: Iterable[Tensor]) -> torch.optim.Optimizer:
    """The ``torch.optim`` optimizer of these parameters. On a GPU it can be part of a CUDA graph.

    Raises:
        TypeError: ``optim`` is not an optimizer.
        ValueError: PyTorch refuses one of its numbers.
    """
    params = list(params)
    if isinstance(optim, CustomOptimizer):
        return optim.make(params)
    on_gpu = any(param.is_cuda for param in params)
    if isinstance(optim, Adam):
        kernels = all(hasattr(torch, name) for name in KERNELS)
        adam = FusedAdam if kernels else torch.optim.Adam
        return adam(params, optim.lr, optim.betas, optim.eps, fused=True, capturable=on_gpu)
    if isinstance(optim, RMSprop):
        return torch.optim.RMSprop(params, optim.lr, optim.alpha, optim.eps, capturable=on_gpu)
    raise TypeError(f"{optim!r} is not an optimizer: it is neither Adam nor RMSprop and has no method make")


def make_grouped(optims: Sequence[Optimizer], groups: Sequence[Sequence[Tensor]]) -> torch.optim.Optimizer:
    """One optimizer for several groups of parameters, each with the numbers of its own entry in ``optims``.

    Raises:
        ValueError: the entries are of different kinds.
    """
    first, *others = (make_optimizer(optim, group) for optim, group in zip(optims, groups, strict=True))
    for other in others:
        if type(other) is not type(first):
            raise ValueError("all seeds of a stack need the same kind of optimizer")
        first.add_param_group(other.param_groups[0])
    return first


class FusedAdam(torch.optim.Adam):
    """``torch.optim.Adam(fused=True)``, whose ``step`` calls only the kernel.

    PyTorch's own step also runs hooks, makes checks and looks for devices. On a CPU that takes 5 % of an
    iteration of small networks. Every parameter needs a gradient.
    """

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter, in place."""
        with torch.no_grad():
            for group in self.param_groups:
                params = group["params"]
                states = [self.state[param] or self._begin(param) for param in params]
                steps = [state["step"] for state in states]
                torch._foreach_add_(steps, 1)
                torch._fused_adam_(
                    params,
                    [param.grad for param in params],
                    [state["exp_avg"] for state in states],
                    [state["exp_avg_sq"] for state in states],
                    [],
                    steps,
                    lr=group["lr"],
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    amsgrad=False,
                    maximize=False,
                )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in PyTorch, but without its decorator, which imports the compiler: one second and 150 MB."""
        _add_param_group(self, param_group)

    step.hooked = True  # type: ignore[attr-defined]  # else PyTorch wraps it for its profiler

    def _begin(self, param: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[param]
        state["step"] = torch.zeros((), device=param.device)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(param), torch.zeros_like(param)
        return state
