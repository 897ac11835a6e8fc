"""One loss as a pure function of tensors, for one seed or, through ``vmap``, for a stack of seeds.

The seeds of a stack are independent: the losses are mapped over a leading seed axis and summed, so
that one backward pass gives each seed its own gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from baselines.gan import Loss

Tensors = dict[str, dict[str, Tensor]]
"""Network name -> parameter or buffer name -> tensor."""

Logs = Mapping[str, Tensor]


class BoundNet:
    """A network bound to tensors: the :class:`~baselines.gan.Net` that losses are given."""

    def __init__(self, training: nn.Module, evaluating: nn.Module, tensors: dict[str, Tensor]) -> None:
        self.training, self.evaluating, self.tensors = training, evaluating, tensors

    def __call__(self, *inputs: Tensor) -> Any:
        return functional_call(self.training, self.tensors, inputs)

    def eval(self, *inputs: Tensor) -> Any:
        return functional_call(self.evaluating, self.tensors, inputs)


class DataBatch(Mapping[str, Tensor]):
    """The examples at ``index`` (B,), gathered and scaled to [-1, 1] when they are read."""

    def __init__(
        self, images: Tensor, labels: Tensor | None, index: Tensor, step: Tensor | None = None
    ) -> None:
        self.entries: dict[str, Callable[[], Tensor]] = {"image": lambda: to_float(images[index])}
        if labels is not None:
            self.entries["label"] = lambda: labels[index]
        if step is not None:
            self.entries["step"] = lambda: step

    def __getitem__(self, name: str) -> Tensor:
        return self.entries[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def to_float(images: Tensor) -> Tensor:
    """uint8 0…255 -> float -1…1, as x / 127.5 - 1."""
    return images.float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Float -1…1 -> uint8 0…255, rounded: the inverse of :func:`to_float`."""
    return images.add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def loss_function(
    loss: Loss,
    modules: Mapping[str, tuple[nn.Module, nn.Module]],
    images: Tensor,
    labels: Tensor | None,
    *,
    stacked: bool,
) -> Callable[[Tensors, dict[str, Tensor], Tensor], tuple[Tensor, Logs]]:
    """``loss`` as a function of (tensors, draw, step), of one seed or of S seeds stacked in front.

    Returns the loss () or (S,), and its logs, likewise.
    """

    def one_seed(tensors: Tensors, draw: dict[str, Tensor], step: Tensor) -> tuple[Tensor, Logs]:
        nets = {name: BoundNet(*pair, tensors[name]) for name, pair in modules.items()}
        noise = {name: value for name, value in draw.items() if name != "index"}
        return loss(nets, DataBatch(images, labels, draw["index"], step), noise)

    if not stacked:
        return one_seed
    return torch.vmap(one_seed, in_dims=(0, 0, None))
