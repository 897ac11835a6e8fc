"""A loss as a pure function of tensors, for one seed or, with ``vmap``, for a stack of seeds.

The seeds of a stack are independent. The loss is mapped over a leading seed axis, and the results are summed.
So one backward pass gives each seed its own gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call

from baselines.gan import Loss

Tensors = dict[str, dict[str, Tensor]]
"""Network name -> parameter or buffer name -> tensor."""

Logs = Mapping[str, Tensor]


class BoundNet:
    """A network with given parameters and buffers: the :class:`~baselines.gan.Net` that losses receive."""

    def __init__(self, training: nn.Module, evaluating: nn.Module, tensors: dict[str, Tensor]) -> None:
        self.training, self.evaluating, self.tensors = training, evaluating, tensors

    def __call__(self, *inputs: Tensor) -> Any:
        return call(self.training, self.tensors, inputs)

    def eval(self, *inputs: Tensor) -> Any:
        return call(self.evaluating, self.tensors, inputs)


PRIVATE = all(hasattr(nn.Module(), name) for name in ("_parameters", "_buffers"))
"""Whether PyTorch's modules hold their tensors where :func:`call` puts others."""


def call(module: nn.Module, tensors: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> Any:
    """``module(*inputs)`` with these parameters and buffers in place of its own.

    The same as ``torch.func.functional_call``, but the places of the tensors are looked up only once: that
    saves 2 % of an iteration of small networks on a CPU. The places are private to PyTorch.
    """
    if not PRIVATE:
        return functional_call(module, dict(tensors), inputs)
    places = _places.get(module) or _places.setdefault(module, _find_places(module))
    own = [held[key] for held, key, _ in places]
    for held, key, name in places:
        held[key] = tensors[name]
    try:
        return module(*inputs)
    finally:
        for (held, key, _), tensor in zip(places, own, strict=True):
            held[key] = tensor


Place = tuple[dict[str, Any], str, str]
"""A module's dictionary, a key in it, and the full name of what it holds."""

_places: WeakKeyDictionary[nn.Module, list[Place]] = WeakKeyDictionary()


def _find_places(module: nn.Module) -> list[Place]:
    """The places of all parameters and buffers. A shared tensor has several places, and its first name."""
    names: dict[Tensor, str] = {}
    return [
        (held, key, names.setdefault(tensor, f"{path}.{key}" if path else key))
        for path, layer in module.named_modules()
        for held in (layer._parameters, layer._buffers)
        for key, tensor in held.items()
        if tensor is not None
    ]


class Bf16Net(BoundNet):
    """A network that computes in bfloat16 and returns float32."""

    def __call__(self, *inputs: Tensor) -> Any:
        with self.autocast(inputs):
            return _to_float32(super().__call__(*inputs))

    def eval(self, *inputs: Tensor) -> Any:
        with self.autocast(inputs):
            return _to_float32(super().eval(*inputs))

    def autocast(self, inputs: tuple[Tensor, ...]) -> torch.autocast:
        """Autocast without its cache of weights, because a CUDA graph cannot update that cache."""
        devices = (tensor.device.type for tensor in (*inputs, *self.tensors.values()))
        return torch.autocast(next(devices, "cpu"), torch.bfloat16, cache_enabled=False)


def _to_float32(output: Any) -> Any:
    if isinstance(output, tuple):
        return tuple(map(_to_float32, output))
    is_bf16 = isinstance(output, Tensor) and output.dtype == torch.bfloat16
    return output.float() if is_bf16 else output


class DataBatch(Mapping[str, Tensor]):
    """The examples at ``index``, gathered when they are read. Images are scaled to [-1, 1].

    ``index`` is (B,); or (B, n) where an example has n images in its channels, each drawn on its own. Float
    "images" are points in the plane, and stay as they are.
    """

    def __init__(
        self, images: Tensor, labels: Tensor | None, index: Tensor, step: Tensor | None = None
    ) -> None:
        self.entries: dict[str, Callable[[], Tensor]] = {"image": lambda: to_float(gathered(images, index))}
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


def gathered(images: Tensor, index: Tensor) -> Tensor:
    """The images (N, C, H, W) at ``index`` (B,); at ``index`` (B, n), n beside each other: (B, n·C, H, W)."""
    if index.dim() == 1:
        return images.index_select(0, index)
    return images.index_select(0, index.flatten()).view(len(index), -1, *images.shape[2:])


def to_float(images: Tensor) -> Tensor:
    """uint8 0…255 -> float -1…1, as x / 127.5 - 1. Floats, coordinates of points, stay as they are."""
    if images.dtype.is_floating_point:
        return images
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
    bf16: bool = False,
) -> Callable[[Tensors, dict[str, Tensor], Tensor, dict[str, Tensor]], tuple[Tensor, Logs]]:
    """``loss`` as a function of (tensors, draw, step, numbers), for one seed, or for S on a leading axis.

    ``numbers`` replace keywords of the loss: those in which the lanes of a stack differ.

    The function returns the loss and its logs, of shape () or (S,).
    """
    bound = Bf16Net if bf16 else BoundNet

    def one_seed(
        tensors: Tensors, draw: dict[str, Tensor], step: Tensor, numbers: dict[str, Tensor]
    ) -> tuple[Tensor, Logs]:
        nets = {name: bound(*pair, tensors[name]) for name, pair in modules.items()}
        noise = {name: value for name, value in draw.items() if name != "index"}
        return loss(nets, DataBatch(images, labels, draw["index"], step), noise, **numbers)

    if not stacked:
        return one_seed
    return torch.vmap(one_seed, in_dims=(0, 0, None, 0))
