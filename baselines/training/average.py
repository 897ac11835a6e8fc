"""Exponential moving averages (EMA) of a generator's parameters, for a stack of S seeds.

Such averages often sample better than the weights of the last step (Yazıcı et al. 2019, arXiv:1806.04498).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from baselines.gan import Batch, Draw, Gan, Net
from baselines.training.step import Tensors


class Average:
    """ā ← β ā + (1 - β) θ after each update of θ; ā begins as the initial parameters.

    Buffers have no average: the moving statistics of BatchNorm are used as they are.

    Args:
        params: of the networks to average, with a leading axis for the seeds of a stack.
        betas: β of each seed; 0 where a seed needs no average.
    """

    def __init__(self, params: Tensors, betas: Sequence[float], device: torch.device) -> None:
        self.params: Tensors = {
            net: {key: value.detach().clone() for key, value in held.items()} for net, held in params.items()
        }
        self.betas = tuple(betas)
        self.weights = torch.tensor([1 - beta for beta in betas], device=device)

    def update(self, net: str, params: Mapping[str, Tensor]) -> None:
        """Take in a network's new parameters, where it is averaged. Nothing is read back to the host."""
        for key, mean in self.params.get(net, {}).items():
            mean.lerp_(params[key].detach(), self._weight(mean))

    def _weight(self, mean: Tensor) -> float | Tensor:
        """1 - β, one number if the seeds share it."""
        if len(set(self.betas)) == 1:
            return 1 - self.betas[0]
        return self.weights.view(-1, *[1] * (mean.dim() - 1))


class Spy(Mapping[str, Net]):
    """Networks by name, and which of them are read."""

    def __init__(self, nets: Mapping[str, Net]) -> None:
        self.nets, self.read = nets, dict[str, None]()

    def __getitem__(self, name: str) -> Net:
        self.read[name] = None
        return self.nets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.nets)

    def __len__(self) -> int:
        return len(self.nets)


def generators(gan: Gan, nets: Mapping[str, Net], batch: Batch, draw: Draw) -> list[str]:
    """The networks that ``generate`` uses and that training updates: those to average."""
    spy = Spy(nets)
    with torch.inference_mode():
        gan.generate(spy, batch, draw)
    updated = {update.net for update in gan.updates}
    return [name for name in spy.read if name in updated]
