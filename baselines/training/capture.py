"""CUDA graphs: an iteration's hundreds of kernel launches are recorded once and replayed as one launch."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[dict[str, Tensor]], list[tuple[str, Tensor]]]

WARM_UP = 3
"""Calls without a graph before the recording."""


class Captured:
    """``function`` as a CUDA graph, with everything it does to tensors on the GPU.

    The first calls run without a graph, on a stream of their own, so that libraries can allocate memory and
    choose algorithms, which is not allowed during a recording. These calls are normal iterations. Then the
    function is recorded. From then on each call copies its arguments to where the recording reads them, and
    replays it. The function may not read tensor values on the host, nor depend on Python values that change.

    If a function cannot be recorded, it runs without a graph, with a warning. ``replays`` tells which is so.
    """

    def __init__(self, function: Function, device: torch.device) -> None:
        self.function, self.n_calls = function, 0
        self.graph = torch.cuda.CUDAGraph()
        self.replays = False
        with torch.cuda.device(device):
            self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, arguments: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
        if self.n_calls == WARM_UP:
            self._record(arguments)
        self.n_calls += 1
        if not self.replays:
            return self._as_written(arguments)
        for name, value in arguments.items():
            self.arguments[name].copy_(value)
        self.graph.replay()
        return [(key, value.clone()) for key, value in self.results]

    def _record(self, arguments: dict[str, Tensor]) -> None:
        self.arguments = {name: value.clone() for name, value in arguments.items()}
        try:
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.results = self.function(self.arguments)
            self.replays = True
        except RuntimeError as error:
            what = " ".join(str(error).split())
            warnings.warn(f"not recorded as a CUDA graph, so slower: {what}", stacklevel=2)

    def _as_written(self, arguments: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            results = self.function(arguments)
        current.wait_stream(self.stream)
        return results
