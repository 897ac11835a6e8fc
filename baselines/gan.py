"""The interface of a model. Read this file first.

A model is one value, a :class:`Gan`: the networks, the noise they are fed, the updates
that one training iteration makes in order, and how to sample and to judge. A model file
holds plain ``nn.Module``s, losses that read like the paper's equations, and a *factory*
that puts them together. The factory's annotated signature is the only place where its
hyperparameters are declared: command line, records and searches all read it.

Letters beside tensors: B examples, C channels, H height, W width, z latent size.
Everything here is written for *one* seed; the trainer maps it over a stack of seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

# ---------------------------------------------------------------- what a model is told


@dataclass(frozen=True)
class DataSpec:
    """What a model may know of a data set before it sees a pixel."""

    channels: int
    height: int
    width: int
    n_classes: int = 0
    """0 where the data set has no labels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.channels, self.height, self.width)

    @property
    def n_pixels(self) -> int:
        """C·H·W."""
        return self.channels * self.height * self.width


# ---------------------------------------------------------------- what a loss is given


class Net(Protocol):
    """A network with the current parameters of one seed."""

    def __call__(self, *inputs: Tensor) -> Any:
        """Forward in training mode: BatchNorm uses and updates batch statistics."""

    def eval(self, *inputs: Tensor) -> Any:
        """Forward in evaluation mode: moving BatchNorm statistics, no dropout."""


Nets = Mapping[str, Net]
"""The networks by name. Only the one that the update names is differentiated."""

Batch = Mapping[str, Tensor]
"""``image`` (B, C, H, W) in [-1, 1]; ``label`` (B,) int64 where the data has labels;
``step``, a scalar: iterations done so far. Read lazily: an entry nobody reads costs nothing."""

Draw = Mapping[str, Tensor]
"""The declared noise by name, fresh for every update: (B, *shape)."""

Loss = Callable[[Nets, Batch, Draw], tuple[Tensor, Mapping[str, Tensor]]]
"""The scalar to minimise, and the scalars to log.

The logs become the columns of ``history.csv``. If several updates of one iteration log the same key, the mean
of their values is kept. Every model logs ``g_loss``. A model with ``discriminate`` also logs ``d_loss``, and,
where it has a threshold, ``d_acc_real`` and ``d_acc_fake``: the fraction of the batch that D classifies
correctly. The names in ``RESERVED_LOGS`` cannot be used."""

RESERVED_LOGS = frozenset({"step"})
"""Columns of ``history.csv`` that the harness itself writes."""


# ---------------------------------------------------------------- what a model declares


@dataclass(frozen=True)
class Normal:
    """Noise N(0, 1) of this shape per example."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Uniform:
    """Noise U(low, high) of this shape per example."""

    shape: tuple[int, ...]
    low: float = 0.0
    high: float = 1.0


Noise = Normal | Uniform


@dataclass(frozen=True)
class Adam:
    """Kingma & Ba 2015 (arXiv:1412.6980). No weight decay."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True)
class RMSprop:
    """Hinton 2012, as WGAN uses it: no momentum, not centred."""

    lr: float
    alpha: float = 0.99
    eps: float = 1e-8


@runtime_checkable
class CustomOptimizer(Protocol):
    """An optimizer that is not in this file: a frozen dataclass with a method ``make``.

    The optimizer must work element by element, because the parameters of several seeds may be stacked in
    one tensor. On a GPU it must be ``capturable``: a step may not read a value back to the host.
    """

    def make(self, params: Iterable[Tensor]) -> torch.optim.Optimizer: ...


Optimizer = Adam | RMSprop | CustomOptimizer
"""How a network is optimized, as a plain value; ``baselines.training.optim`` makes the optimizer."""


@dataclass(frozen=True)
class Update:
    """One optimizer step of one network within an iteration."""

    net: str
    loss: Loss
    project: Callable[[Tensor], object] | None = None
    """Applied in place to each parameter of ``net`` after the step (WGAN's clipping)."""


@dataclass(frozen=True)
class Gan:
    """A model, whole. Vary one with ``dataclasses.replace``."""

    build: Callable[[], dict[str, nn.Module]]
    """Fresh networks by name, initialised from torch's global generator. A ``gen`` and a ``disc`` by custom.

    A network without an entry in ``optim`` is never updated: a frozen feature extractor, or state that the
    losses share. All that training changes is a parameter or a buffer, and buffers are changed in place."""
    noise: Mapping[str, Noise]
    updates: tuple[Update, ...]
    generate: Callable[[Nets, Batch, Draw], Tensor]
    """Images (B, C, H, W) in [-1, 1] as they are scored: evaluation mode. ``batch`` has no ``step`` here."""
    optim: Mapping[str, Optimizer]
    """By network. Every network that an update names needs one."""
    batch_size: int
    discriminate: Callable[[Nets, Batch], Tensor] | None = None
    """The discriminator's score (B,) of ``batch["image"]``, evaluation mode; higher is more real. ``batch``
    has no ``step`` here. ``None``: the model has no discriminator, and its runs have no D accuracy."""
    threshold: float | None = 0.0
    """Scores above it mean "real" (a logit of 0 is a probability of one half).
    ``None``: the score has no natural threshold (critics)."""
    low_resolution: Callable[[Batch], Tensor] | None = None
    """Super-resolution: the image (B, C, H/r, W/r) that the generator is given in place of noise."""


# ---------------------------------------------------------------- hyperparameters


@dataclass(frozen=True)
class Log:
    """Search this positive number on a log scale between low and high."""

    low: float
    high: float


@dataclass(frozen=True)
class Linear:
    """Search this number evenly between low and high."""

    low: float
    high: float


@dataclass(frozen=True)
class Choice:
    """Search among these values."""

    values: tuple[Any, ...]


# ---------------------------------------------------------------- a model's card

Factory = TypeVar("Factory", bound=Callable[..., Gan])


@dataclass(frozen=True)
class Card:
    """Where a model comes from and what it needs."""

    paper: str
    year: int
    needs: frozenset[str] = frozenset()
    """``{"label"}`` for conditional models."""
    task: str = "generation"
    """``generation`` or ``super-resolution``: different tasks are never ranked together."""


def card(
    *, paper: str, year: int, needs: Collection[str] = (), task: str = "generation"
) -> Callable[[Factory], Factory]:
    """Attach a :class:`Card` to a factory."""

    def attach(factory: Factory) -> Factory:
        factory.card = Card(paper, year, frozenset(needs), task)  # type: ignore[attr-defined]
        return factory

    return attach
