"""Training loops that others write, to compare the harness with: that of a tutorial, and a lean one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import repeat
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, Normalize, ToTensor

from baselines.gan import Gan
from baselines.training.streams import draw

TO_TENSOR = Compose([ToTensor(), Normalize(0.5, 0.5)])


class Pixels(Dataset[Any]):
    """Images (N, C, H, W), uint8, and labels (N,). Each image is transformed alone, as in tutorials."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> dict[str, Any]:
        pixels = self.images[k].movedim(0, -1).squeeze(-1).numpy()
        return {"image": TO_TENSOR(Image.fromarray(pixels)), "label": self.labels[k]}


def textbook(gan: Gan, images: Tensor, labels: Tensor, device: str) -> Iterator[dict[str, float]]:
    """Train one seed as tutorials do. Yields what each iteration logs.

    It uses torchvision's transforms, a ``DataLoader``, ``zero_grad`` and ``backward``, PyTorch's default
    optimizers, ``.item()`` to read losses, and PyTorch's default number of threads.
    """
    loader = DataLoader(Pixels(images, labels), gan.batch_size, shuffle=True, drop_last=True)
    epochs = (batch for _ in repeat(None) for batch in loader)
    return _loop(gan, epochs, device, Tensor.item)


def lean(gan: Gan, images: Tensor, labels: Tensor, device: str) -> Iterator[dict[str, Tensor]]:
    """Train one seed as somebody does who wants it fast, but writes no more than this.

    All images are one tensor of floats, batches are gathered from it, and losses are not read. It is meant
    for a process with one thread. Yields what each iteration logs.
    """
    pixels, labels = images.to(device).float() / 127.5 - 1, labels.to(device)

    def batches() -> Iterator[dict[str, Tensor]]:
        while True:
            index = torch.randint(len(pixels), (gan.batch_size,), device=device)
            yield {"image": pixels[index], "label": labels[index]}

    return _loop(gan, batches(), device, Tensor.detach)


def _loop(
    gan: Gan, batches: Iterable[dict[str, Tensor]], device: str, read: Callable[[Tensor], Any]
) -> Iterator[dict[str, Any]]:
    """Train on these batches. Yields what each iteration logs, as ``read`` gives it."""
    nets = {name: net.to(device) for name, net in gan.build().items()}
    optimizers = {name: _optimizer(nets[name], optim) for name, optim in gan.optim.items()}
    generator = torch.Generator(device)
    step = torch.zeros((), dtype=torch.int64, device=device)
    for loaded in batches:
        batch = {name: value.to(device) for name, value in loaded.items()} | {"step": step}
        logged: dict[str, Any] = {}
        for update in gan.updates:
            views = {name: TextbookNet(net, name == update.net) for name, net in nets.items()}
            noise = draw(gan.noise, (gan.batch_size,), generator)
            loss, logs = update.loss(views, batch, noise)
            optimizers[update.net].zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizers[update.net].step()
            if update.project is not None:
                with torch.no_grad():
                    for param in nets[update.net].parameters():
                        update.project(param)
            logged |= {key: read(value) for key, value in logs.items()}
        step += 1
        yield logged


def _optimizer(net: nn.Module, optim: Any) -> Any:
    """PyTorch's optimizer of the same name, with the same options."""
    return getattr(torch.optim, type(optim).__name__)(net.parameters(), **asdict(optim))


class TextbookNet:
    """A network in a tutorial: its output is detached, unless an update trains it or passes through it."""

    def __init__(self, module: nn.Module, learns: bool) -> None:
        self.module, self.learns = module, learns

    def __call__(self, *inputs: Tensor) -> Any:
        return self._output(self.module.train(), inputs)

    def eval(self, *inputs: Tensor) -> Any:
        return self._output(self.module.eval(), inputs)

    def _output(self, module: nn.Module, inputs: Sequence[Tensor]) -> Any:
        output = module(*inputs)
        if self.learns or any(x.requires_grad for x in inputs):
            return output
        return tuple(x.detach() for x in output) if isinstance(output, tuple) else output.detach()
