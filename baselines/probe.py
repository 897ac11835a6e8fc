"""A model tried on a few random images: can it be built, trained, sampled and asked?

``try_out`` says what is wrong before a run is planned, ``conformance`` asks the same and more.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from baselines.gan import Batch, DataSpec, Draw, Gan
from baselines.training import settings
from baselines.training.step import DataBatch
from baselines.training.streams import draw
from baselines.training.trainer import Trainer

N_IMAGES = 24
SMALL_BATCH = 4
MARGIN = 0.003
"""By so much an image may leave [-1, 1]: less than half a grey level, which rounding hides."""

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Lab:
    """A model, and a little data to try it on."""

    gan: Gan
    images: Tensor
    labels: Tensor | None
    data: DataSpec
    n_steps: int = 2
    changed: list[str] = field(default_factory=list)
    """What the model changed for the whole process, in words."""

    def trainer(self, *seeds: int, gan: Gan | None = None, lanes: Sequence[Gan] = ()) -> Trainer:
        """A fresh trainer, of seed 0 unless told."""
        return Trainer(gan or self.gan, self.images, self.labels, seeds or (0,), lanes=lanes)

    @cached_property
    def trained(self) -> Trainer:
        """Seed 0 after ``n_steps`` iterations."""
        trainer = self.trainer()
        trainer.advance(self.n_steps)
        return trainer

    def batch(self, index: Tensor) -> Batch:
        """The examples at ``index``."""
        return DataBatch(self.images, self.labels, index, torch.zeros((), dtype=torch.int64))

    def draw(self, n: int) -> Draw:
        """Noise for n examples, the same at every call."""
        return draw(self.gan.noise, (n,), torch.Generator().manual_seed(0))

    def generate(self, n: int) -> Tensor:
        """Images for the first n of five examples."""
        drawn = {name: value[:n] for name, value in self.draw(5).items()}
        return self.gan.generate(self.trained.nets(), self.batch(torch.arange(n)), drawn)

    def discriminate(self, n: int) -> Tensor:
        """The scores of the first n examples."""
        return self.gan.discriminate(self.trained.nets(), self.batch(torch.arange(n)))


def random_examples(data: DataSpec, *, labelled: bool) -> tuple[Tensor, Tensor | None]:
    """Images of noise (N, C, H, W), uint8, and labels (N,)."""
    images = torch.randint(0, 256, (N_IMAGES, *data.shape), generator=torch.Generator().manual_seed(0))
    return images.to(torch.uint8), torch.arange(N_IMAGES) % data.n_classes if labelled else None


def try_out(gan: Gan, data: DataSpec, *, labelled: bool) -> tuple[list[str], list[str]]:
    """What keeps a model from being trained and scored on data of this shape, and what it changed for the
    whole process until it was put back: one sentence each.

    It takes one iteration on a small batch; where that fails, a batch of the model's own size decides.
    Numbers that are not finite are no fault of the interface: such a run diverges, and is recorded.
    """
    examples = random_examples(data, labelled=labelled)
    updates = tuple(dict.fromkeys(gan.updates))
    found: list[str] = []
    changed: list[str] = []
    for size in sorted({min(SMALL_BATCH, gan.batch_size), gan.batch_size}):
        lab = Lab(replace(gan, updates=updates, batch_size=size), *examples, data, 1, changed)
        found = _first_found(lab)
        if not found:
            break
    return found, changed


def _first_found(lab: Lab) -> list[str]:
    for check in CHECKS:
        with warnings.catch_warnings():
            # a layer without units is only a warning
            warnings.simplefilter("error" if check is check_parts else "ignore")
            if found := carried_out(check, lab):
                return found
    return []


def carried_out(check: Callable[..., Iterator[str]], lab: Lab) -> list[str]:
    """What a check finds; an author's code may raise anything, and that is a finding too."""
    with settings.isolated() as changed:
        try:
            found = list(check(lab))
        except Exception as error:
            purpose = (check.__doc__ or "").rstrip(".")
            found = [f"{purpose}: {type(error).__name__}: {first_line(error)}"]
    lab.changed.extend(changed)
    return found


# ---------------------------------------------------------------- the checks


def check_parts(lab: Lab) -> Iterator[str]:
    """Building the networks."""
    nets = lab.gan.build()
    for name, net in nets.items():
        if not isinstance(net, nn.Module):
            yield f"build() makes {name!r} a {type(net).__name__}, not a torch.nn.Module"
    for name in sorted({update.net for update in lab.gan.updates} | set(lab.gan.optim)):
        if name not in nets:
            yield f"an update or optimizer names {name!r}, but build() makes {', '.join(nets)}"
        elif name not in lab.gan.optim:
            yield f"the updates of {name!r} have no optimizer"
    if "index" in lab.gan.noise:
        yield "the noise cannot be called 'index': the trainer needs that name"


def check_iteration(lab: Lab) -> Iterator[str]:
    """Training on noise."""
    try:
        trainer = lab.trained
    except KeyError as error:
        if error.args != ("label",):
            raise
        yield "a loss reads batch['label'], but the card does not say needs={'label'}"
        return
    except RuntimeError as error:
        if "not have been used in the graph" not in str(error):
            raise
        yield "a loss does not depend on every parameter of the network that its update names"
        return
    logs = trainer.history()
    accuracies = {"d_acc_real", "d_acc_fake"}
    promised = {"d_loss", "g_loss"} | (accuracies if lab.gan.threshold is not None else set())
    for key in sorted(promised - set(logs)):
        yield f"no loss logs {key!r}"
    for key, values in logs.items():
        if key in accuracies - promised:
            yield f'{key!r} is logged, but threshold=None says that no score means "real"'
        elif key in accuracies and ((values < 0) | (values > 1)).any():
            yield f"the log {key!r} is not a share between 0 and 1"


def check_sampling(lab: Lab) -> Iterator[str]:
    """Generating."""
    yield from _evaluates("generate", lab.generate, lab, lab.data.shape)


def check_judging(lab: Lab) -> Iterator[str]:
    """Judging."""
    yield from _evaluates("discriminate", lab.discriminate, lab, ())


CHECKS: tuple[Callable[[Lab], Iterator[str]], ...] = (
    check_parts,
    check_iteration,
    check_sampling,
    check_judging,
)


def _evaluates(
    name: str, function: Callable[[int], Tensor], lab: Lab, shape: tuple[int, ...]
) -> Iterator[str]:
    """Right shape and range, repeatable, each example on its own, nothing changed."""
    before = copied(state(lab.trained))
    result = function(5)
    if wrong := wrong_output(name, result, 5, shape):
        yield wrong
    elif result.isfinite().all():
        if not torch.equal(function(5), result):
            yield f"{name} gives other values when called again: call the networks' eval"
        elif (function(2) - result[:2]).abs().max() > 1e-4 * result.abs().max().clamp(min=1):
            yield f"{name} mixes the examples of a batch: call the networks' eval"
    for key in differing(before, state(lab.trained)):
        yield f"{name} changes {key}: call the networks' eval"


def wrong_output(name: str, output: Tensor, n: int, shape: tuple[int, ...]) -> str | None:
    """What is wrong with n images of this shape (or scores, of no shape), if anything is."""
    if not isinstance(output, Tensor):
        return f"{name} gives a {type(output).__name__}, not a tensor"
    if output.shape != (n, *shape):
        return f"{name} gives {tuple(output.shape)} for {n} examples, not {(n, *shape)}"
    if not output.is_floating_point():
        return f"{name} gives {output.dtype}, not floats"
    if shape and output.isfinite().all() and output.abs().max() > 1 + MARGIN:
        return f"{name} leaves [-1, 1]: {output.min():.3g} to {output.max():.3g}"
    return None


# ---------------------------------------------------------------- helpers


def state(trainer: Trainer, lane: int = 0) -> Tensors:
    """Every parameter and buffer of one lane by its full name."""
    held = trainer.weights(lane)
    return {f"{net}.{key}": value for net, tensors in held.items() for key, value in tensors.items()}


def copied(tensors: Mapping[str, Tensor]) -> Tensors:
    """As they are now."""
    return {key: value.clone() for key, value in tensors.items()}


def differing(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[str]:
    """The names whose values are not the same bit for bit."""
    return [key for key in a if not torch.equal(_bits(a[key]), _bits(b[key]))]


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().reshape(-1).view(torch.uint8)  # NaN is not equal to NaN, but its bits are


def first_line(error: BaseException) -> str:
    """What an error says, without what follows."""
    return str(error).strip().split("\n")[0]
