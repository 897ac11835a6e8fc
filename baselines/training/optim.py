"""Adam with as little as possible around its kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_add_param_group = torch.optim.Optimizer.add_param_group
_add_param_group = getattr(_add_param_group, "__wrapped__", _add_param_group)


class FusedAdam(torch.optim.Adam):
    """``torch.optim.Adam(fused=True)``, and of its step the kernel alone.

    What else is in that step (hooks, checks, a search for devices) takes a twentieth of an iteration of
    small networks on a CPU. Every parameter needs a gradient.
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
        """As PyTorch does it, without loading its compiler: that takes a second and 150 MB per process."""
        _add_param_group(self, param_group)

    step.hooked = True  # type: ignore[attr-defined]  # else PyTorch wraps it for its profiler

    def _begin(self, param: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[param]
        state["step"] = torch.zeros((), device=param.device)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(param), torch.zeros_like(param)
        return state
