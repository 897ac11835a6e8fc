"""The trial of a model: can it be built, trained, sampled and asked on data of this shape?

``bench`` makes this trial before it plans a run. ``conformance`` makes the same trial, and then more checks.
So a model that ``conformance`` calls fine can be run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from baselines.gan import RESERVED_LOGS, Batch, DataSpec, Draw, Gan
from baselines.training import settings
from baselines.training.step import DataBatch
from baselines.training.streams import draw
from baselines.training.trainer import Trainer

N_IMAGES = 24
SMALL_BATCH = 4
PLANNED = 8
"""Iterations, for learning rates that fall over a run; more than are made."""
MARGIN = 0.003
"""A pixel may lie outside [-1, 1] by this much. It is less than half a grey level, so rounding removes it."""

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
    """Process-wide settings that the model changed, in words."""

    def trainer(self, *seeds: int, gan: Gan | None = None, lanes: Sequence[Gan] = ()) -> Trainer:
        """A fresh trainer of a run of a few iterations. The default seed is 0."""
        chosen = gan or self.gan
        return Trainer(chosen, self.images, self.labels, seeds or (0,), lanes=lanes, steps=PLANNED)

    @cached_property
    def trained(self) -> Trainer:
        """Seed 0 after ``n_steps`` iterations."""
        trainer = self.trainer()
        trainer.advance(self.n_steps)
        return trainer

    def batch(self, index: Tensor, step: Tensor | None = None) -> Batch:
        """The examples at ``index``. Losses are also given the ``step``; sampling and judging are not."""
        return DataBatch(self.images, self.labels, index, step)

    def draw(self, n: int) -> Draw:
        """Noise for n examples, the same at every call."""
        return draw(self.gan.noise, (n,), torch.Generator().manual_seed(0))

    def generate(self, n: int) -> Tensor:
        """Images for the first n of five examples."""
        drawn = {name: value[:n] for name, value in self.draw(5).items()}
        with torch.inference_mode():
            return self.gan.generate(self.trained.nets(), self.batch(torch.arange(n)), drawn)

    def discriminate(self, n: int) -> Tensor:
        """The scores of the first n examples."""
        assert self.gan.discriminate is not None
        with torch.inference_mode():
            return self.gan.discriminate(self.trained.nets(), self.batch(torch.arange(n)))


@dataclass(frozen=True)
class Trial:
    """What a trial found."""

    gan: Gan | None
    """The model, where the factory made one."""
    problems: list[str]
    """What keeps the model from being trained and scored, one sentence each."""
    changed: list[str]
    """Process-wide settings that it changed, in words. They were restored."""
    trains: bool = False
    """Whether it can be trained. What else is wrong concerns sampling and judging."""
    any_batch: bool = False
    """Whether it was tried with a batch size that is not its own."""


def random_examples(data: DataSpec, *, labelled: bool) -> tuple[Tensor, Tensor | None]:
    """Images of noise (N, C, H, W), uint8, or points (N, 2, 1, 1), float32; and labels (N,)."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(N_IMAGES) % data.n_classes if labelled else None
    if data.points:
        return torch.randn((N_IMAGES, *data.shape), generator=generator), labels
    images = torch.randint(0, 256, (N_IMAGES, *data.shape), generator=generator)
    return images.to(torch.uint8), labels


# ---------------------------------------------------------------- the trial


def try_out(
    factory: Callable[..., Gan], data: DataSpec, hyper: Mapping[str, Any], *, labelled: bool
) -> Trial:
    """Call a factory and train its model for one iteration on images of noise; then sample and judge.

    The batch is small. If that fails, the model is tried again with its own batch size. Losses and samples
    that are not finite are no problem here: such a run diverges, and is recorded.

    Raises:
        ValueError: the factory refuses the data or a hyperparameter, as it may.
    """
    with settings.isolated() as changed:
        try:
            gan = factory(data, **hyper)
        except ValueError:
            raise
        except (Exception, SystemExit) as error:
            return Trial(None, [f"Calling the factory: {describe(error)}"], changed)
    if not isinstance(gan, Gan):
        return Trial(None, [f"the factory returns a {type(gan).__name__}, not a Gan"], changed)
    if gan.batch_size < 1:
        return Trial(gan, [f"batch_size is {gan.batch_size}; 1 or more is allowed"], changed)
    examples = random_examples(data, labelled=labelled)
    updates = tuple(dict.fromkeys(gan.updates))
    for size in sorted({min(SMALL_BATCH, gan.batch_size), gan.batch_size}):
        lab = Lab(replace(gan, updates=updates, batch_size=size), *examples, data, 1, changed)
        trial = _tried(lab, any_batch=size != gan.batch_size)
        if not trial.problems:
            break
    return replace(trial, gan=gan)


def _tried(lab: Lab, *, any_batch: bool) -> Trial:
    problems = carried_out(check_parts, lab)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are shown when the run trains
        problems = problems or carried_out(check_iteration, lab)
        trains = not problems
        if trains:
            problems = [problem for check in SCORING for problem in carried_out(check, lab)]
    return Trial(lab.gan, problems, lab.changed, trains, any_batch)


def carried_out(check: Callable[..., Iterator[str]], lab: Lab) -> list[str]:
    """What a check finds. Whatever the model's code raises is a finding too."""
    with settings.isolated() as changed:
        try:
            problems = list(check(lab))
        except (Exception, SystemExit) as error:
            purpose = (check.__doc__ or "").rstrip(".")
            problems = [f"{purpose}: {describe(error)}"]
    lab.changed.extend(changed)
    return problems


# ---------------------------------------------------------------- its checks


def check_parts(lab: Lab) -> Iterator[str]:
    """Building the networks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # reported below
        nets = lab.gan.build()
    for name, net in nets.items():
        if not isinstance(net, nn.Module):
            yield f"build() makes {name!r} a {type(net).__name__}, not a torch.nn.Module"
            continue
        for key, param in net.named_parameters():
            if not param.numel():
                yield f"a layer has no units: the parameter {name}.{key} has the shape {tuple(param.shape)}"
            elif name in lab.gan.optim and not param.requires_grad:
                yield (
                    f"the parameter {name}.{key} does not require gradients, but the optimizer moves all of "
                    f"{name!r}: move frozen layers to a network without an optimizer"
                )
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
    yield from _wrong_logs(lab.gan, trainer)


ACCURACIES = ("d_acc_real", "d_acc_fake")


def _wrong_logs(gan: Gan, trainer: Trainer) -> Iterator[str]:
    """What a model logs and should not, or does not log and should."""
    promised = {"g_loss"}
    if gan.discriminate is not None:
        promised |= {"d_loss"} if gan.threshold is None else {"d_loss", *ACCURACIES}
    logs = trainer.history()
    for key in sorted(promised - set(logs)):
        yield f"no loss logs {key!r}"
    for key, values in logs.items():
        if key in RESERVED_LOGS:
            yield f"a loss logs {key!r}, a column of history.csv that the harness itself writes: rename it"
        elif key not in ACCURACIES:
            continue
        elif key not in promised:
            why = 'threshold=None says that no score means "real"'
            yield f"{key!r} is logged, but {why if gan.discriminate else 'the model has no discriminate'}"
        elif ((values < 0) | (values > 1)).any():
            yield f"the log {key!r} is not a fraction between 0 and 1"


def check_sampling(lab: Lab) -> Iterator[str]:
    """Generating."""
    yield from _evaluates("generate", lab.generate, lab, lab.data.shape)


def check_low_resolution(lab: Lab) -> Iterator[str]:
    """Making low-resolution images."""
    if lab.gan.low_resolution is None:
        return
    with torch.inference_mode():
        low = lab.gan.low_resolution(lab.batch(torch.arange(5)))
    channels, height, width = lab.data.shape
    low_height = low.shape[2] if isinstance(low, Tensor) and low.dim() == 4 else height
    r = max(1, height // max(1, low_height))
    if wrong := wrong_output("low_resolution", low, 5, (channels, height // r, width // r)):
        yield wrong


def check_judging(lab: Lab) -> Iterator[str]:
    """Judging."""
    if lab.gan.discriminate is not None:
        yield from _evaluates("discriminate", lab.discriminate, lab, (), alone=lab.gan.packing == 1)


SCORING = (check_sampling, check_low_resolution, check_judging)


def _evaluates(
    name: str, function: Callable[[int], Tensor], lab: Lab, shape: tuple[int, ...], *, alone: bool = True
) -> Iterator[str]:
    """Right shape and range, repeatable, each example on its own if ``alone``, nothing changed."""
    before = copied(state(lab.trained))
    result = function(5)
    if wrong := wrong_output(name, result, 5, shape, anywhere=lab.data.points):
        yield wrong
    elif result.isfinite().all():
        if not torch.equal(function(5), result):
            yield f"{name} gives other values when called again: call the networks' eval"
        elif alone and (function(2) - result[:2]).abs().max() > 1e-4 * result.abs().max().clamp(min=1):
            yield f"{name} mixes the examples of a batch: call the networks' eval"
    for key in differing(before, state(lab.trained)):
        yield f"{name} changes {key}: call the networks' eval"


def wrong_output(
    name: str, output: Tensor, n: int, shape: tuple[int, ...], *, anywhere: bool = False
) -> str | None:
    """What is wrong with n images of this shape (or n scores, shape ()), or ``None``.

    ``anywhere``: points in the plane, which may lie outside of [-1, 1].
    """
    if not isinstance(output, Tensor):
        return f"{name} gives a {type(output).__name__}, not a tensor"
    if output.shape != (n, *shape):
        return f"{name} gives {tuple(output.shape)} for {n} examples, not {(n, *shape)}"
    if not output.is_floating_point():
        return f"{name} gives {output.dtype}, not floats"
    if shape and not anywhere and output.isfinite().all() and output.abs().max() > 1 + MARGIN:
        return f"{name} leaves [-1, 1]: {output.min():.3g} to {output.max():.3g}"
    return None


# ---------------------------------------------------------------- helpers


def state(trainer: Trainer, lane: int = 0) -> Tensors:
    """Every parameter, buffer and averaged parameter of one seed by its full name."""
    held = trainer.weights(lane) | {f"average of {k}": v for k, v in trainer.averaged(lane).items()}
    return {f"{net}.{key}": value for net, tensors in held.items() for key, value in tensors.items()}


def copied(tensors: Mapping[str, Tensor]) -> Tensors:
    """Copies that later training does not change."""
    return {key: value.clone() for key, value in tensors.items()}


def differing(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[str]:
    """The names whose values are not the same bit for bit."""
    return [key for key in a if not torch.equal(_bits(a[key]), _bits(b[key]))]


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().reshape(-1).view(torch.uint8)  # NaN is not equal to NaN, but its bits are


def describe(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    if isinstance(error, SystemExit):
        return f"it ends the process with sys.exit({error.code!r}): raise an error instead"
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return str(error).strip().split("\n")[0]
