"""The interface of a model. Read this file first.

A model is one value, a :class:`Gan`. It holds the networks, their noise, the updates of one training
iteration in order, and functions that sample and judge. A model file contains plain ``nn.Module``s, losses
that read like the paper's equations, and a *factory* that puts them together. The factory's annotated
signature is the only place where hyperparameters are declared. Command line, records and searches read it.

Letters beside tensors: B examples, C channels, H height, W width, z latent size.
A model is written for *one* seed. The trainer maps it over a stack of seeds with ``torch.vmap``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:  # the import takes seconds, and plans need only hyperparameters
    import torch
    from torch import Tensor, nn

# ---------------------------------------------------------------- the data set


@dataclass(frozen=True)
class DataSpec:
    """What a factory knows about a data set."""

    channels: int
    height: int
    width: int
    n_classes: int = 0
    """0 where the data set has no labels."""
    points: bool = False
    """Points in the plane: "images" of shape (2, 1, 1) are coordinates, not scaled to [-1, 1]. So a generator
    of points ends linear, without tanh."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.channels, self.height, self.width)

    @property
    def n_pixels(self) -> int:
        """C·H·W."""
        return self.channels * self.height * self.width


# ---------------------------------------------------------------- the arguments of a loss


class Net(Protocol):
    """A network with the current parameters of one seed."""

    def __call__(self, *inputs: Tensor) -> Any:
        """Forward in training mode: BatchNorm uses batch statistics and updates the moving ones."""

    def eval(self, *inputs: Tensor) -> Any:
        """Forward in evaluation mode: BatchNorm uses the moving statistics, and there is no dropout."""


Nets = Mapping[str, Net]
"""The networks by name. Gradients are taken only for the network that the update names."""

Batch = Mapping[str, "Tensor"]
"""``image`` (B, C, H, W) in [-1, 1], coordinates (B, 2, 1, 1) where the data are points; ``label`` (B,) int64
where the data has labels; ``step`` (), int64: the iterations done so far. Entries are computed when they are
read."""

Draw = Mapping[str, "Tensor"]
"""The declared noise by name, drawn anew for every update: (B, *shape)."""

Loss = Callable[[Nets, Batch, Draw], tuple["Tensor", Mapping[str, "Tensor"]]]
"""The scalar to minimise, and the scalars to log.

The logs become the columns of ``history.csv``. If several updates of one iteration log the same key, the mean
of their values is kept. Every model logs ``g_loss``. A model with ``discriminate`` also logs ``d_loss``, and,
where it has a threshold, ``d_acc_real`` and ``d_acc_fake``: the fraction of the batch that D classifies
correctly. The names in ``RESERVED_LOGS`` cannot be used."""

RESERVED_LOGS = frozenset({"step"})
"""Columns of ``history.csv`` that the harness itself writes."""


# ---------------------------------------------------------------- the parts of a model


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
    one tensor. On a GPU it must be ``capturable``: a step may not read a value back to the host. With a
    ``decay``, the trainer sets ``lr`` of its groups before each iteration; on a GPU that is a tensor.
    """

    def make(self, params: Iterable[Tensor]) -> torch.optim.Optimizer: ...


Decay = Literal["none", "linear", "cosine"]

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
    """A model. ``dataclasses.replace`` makes a variation of one."""

    build: Callable[[], dict[str, nn.Module]]
    """New networks by name, initialised from PyTorch's global generator. Usual names: ``gen`` and ``disc``.

    A network without an entry in ``optim`` is never updated: a frozen feature extractor, or state that the
    losses share. Whatever training changes must be a parameter or a buffer. Change buffers in place."""
    noise: Mapping[str, Noise]
    updates: tuple[Update, ...]
    generate: Callable[[Nets, Batch, Draw], Tensor]
    """Images (B, C, H, W) in [-1, 1], made in evaluation mode; they are scored. ``batch`` has no ``step``."""
    optim: Mapping[str, Optimizer]
    """One for every network that an update names."""
    batch_size: int
    discriminate: Callable[[Nets, Batch], Tensor] | None = None
    """The discriminator's score (B,) of ``batch["image"]``, made in evaluation mode; higher means more real.
    ``batch`` has no ``step``. ``None``: the model has no discriminator, and its runs have no D accuracy."""
    threshold: float | None = 0.0
    """A score above it means "real". For a logit, 0 is a probability of one half.
    ``None``: the score has no natural threshold, as with critics."""
    packing: int = 1
    """D judges packs of so many images. Then ``discriminate`` scores each image in a pack with those that
    follow it in the batch."""
    low_resolution: Callable[[Batch], Tensor] | None = None
    """For super-resolution: the generator's input (B, C, H/r, W/r), which takes the place of noise."""
    ema: float = 0.0
    """β of an exponential moving average of the parameters that ``generate`` uses, taken after each of their
    updates. 0: there is none. A hyperparameter of every model (:mod:`baselines.options`)."""
    decay: Decay = "none"
    """How all learning rates fall to zero over the planned length of a run. Also one of every model."""


# ---------------------------------------------------------------- hyperparameters


@dataclass(frozen=True)
class Log:
    """Search range of a positive number, on a log scale."""

    low: float
    high: float


@dataclass(frozen=True)
class Linear:
    """Search range of a number, on a linear scale."""

    low: float
    high: float


@dataclass(frozen=True)
class Choice:
    """Search these values."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Unsearched:
    """Not searched, unless the user gives values: an option that is off by default."""


# ---------------------------------------------------------------- a model's card

Factory = TypeVar("Factory", bound=Callable[..., Gan])


@dataclass(frozen=True)
class Card:
    """Where a model comes from and what it needs."""

    paper: str
    year: int
    needs: frozenset[str] = frozenset()
    """``{"label"}`` for a model that reads ``batch["label"]``."""
    task: str = "generation"
    """``generation`` or ``super-resolution``. Models of different tasks are never ranked together."""
    on_points: Mapping[str, Any] = field(default_factory=dict)
    """Hyperparameters that have another default on points in the plane, with that default."""


def card(
    *,
    paper: str,
    year: int,
    needs: Collection[str] = (),
    task: str = "generation",
    on_points: Mapping[str, Any] | None = None,
) -> Callable[[Factory], Factory]:
    """Attach a :class:`Card` to a factory."""

    def attach(factory: Factory) -> Factory:
        factory.card = Card(paper, year, frozenset(needs), task, on_points or {})  # type: ignore[attr-defined]
        return factory

    return attach
