"""Count the matrix products and convolutions of a piece of work, and compute them again.

This is the one file of ``bench`` that uses private parts of PyTorch. Where a version of it lacks them,
nothing is counted, and ``bench.speed`` leaves the ceiling out. There is no public way: PyTorch's own
``FlopCounterMode`` follows modules, which ``torch.func.grad`` in a loss does not allow, and it does not keep
the operands.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

try:
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry
except ImportError:
    flop_registry = {}

    class TorchDispatchMode(AbstractContextManager["TorchDispatchMode"]):  # type: ignore[no-redef]
        """Nothing is recorded."""

        def __exit__(self, *_: object) -> None: ...


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within the block, record each matrix product and convolution, also those of backward passes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self.flops = 0
        """Floating-point operations, by PyTorch's formulas."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if (formula := flop_registry.get(func.overloadpacket)) is not None:
            self.calls.append((func, args, kwargs))
            self.flops += formula(*args, **kwargs, out_val=result)
        return result

    def __call__(self) -> None:
        """Compute them again, on the same operands."""
        with torch.no_grad():
            for func, args, kwargs in self.calls:
                func(*args, **kwargs)
