"""A training iteration as a CUDA graph: hundreds of launches recorded once, replayed as one."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[dict[str, Tensor]], list[tuple[str, Tensor]]]

WARM_UP = 3
"""Calls before the recording."""


class Captured:
    """``function``, and all that it does to other tensors on the GPU, in one launch.

    The first calls run as written, on a stream of their own: they count like any other, and let
    libraries allocate and choose what they may not while one records. Then the function is recorded,
    and from there on replayed with its arguments copied to where the recording reads them. It may not
    look at a value on the host, nor at anything of Python's that changes.

    A function that cannot be recorded goes on as written, with a warning; ``replays`` says which.
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
