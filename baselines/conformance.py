"""Checks that a model does what the interface asks of it.

    python -m baselines.conformance vanilla mypkg.mygan:mygan --set net=conv

prints what is wrong, for each image shape. Exit codes: 0 all fine, 1 something is wrong with a model, 2 the
request was wrong.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from baselines import registry
from baselines.gan import Card, DataSpec, Gan, Optimizer
from baselines.hyperparameters import declared
from baselines.probe import (
    Lab,
    Tensors,
    carried_out,
    copied,
    differing,
    first_line,
    random_examples,
    state,
    try_out,
)
from baselines.training import settings
from baselines.training.lanes import may_differ
from baselines.training.optim import make_optimizer
from baselines.training.trainer import Trainer, build

SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32))
N_CLASSES = 10
BATCH_SIZE = 8
ABSOLUTE, RELATIVE = 2e-6, 1e-3
"""A seed may give other numbers in a stack than alone, because float32 sums have another order there. After
one iteration with small SGD steps a tensor may differ by ABSOLUTE + RELATIVE × its largest change."""

# ---------------------------------------------------------------- the checks


def check(factory: Callable[..., Gan], data: DataSpec, /, **hyper: Any) -> list[str]:
    """What is wrong with a model on data of this shape, one sentence each; empty where nothing is.

    First the trial that ``bench`` makes before it plans a run, then the checks of this file.

    Raises:
        ValueError: the factory refuses the data or a hyperparameter, as it may.
    """
    problems = list(check_signature(factory))
    if problems:
        return problems
    hyper = {name: one.default for name, one in declared(factory).items()} | hyper
    labelled = "label" in registry.card(factory).needs
    trial = try_out(factory, data, hyper, labelled=labelled)
    problems, changed = trial.problems, [*registry.side_effects(factory), *trial.changed]
    if trial.gan is not None and trial.trains:
        make = with_batch_size(factory, BATCH_SIZE if trial.any_batch else trial.gan.batch_size)
        examples = random_examples(data, labelled=labelled)
        lab = FullLab(make(data, **hyper), *examples, data, make=make, hyper=hyper)
        for checking in CHECKS:
            found = carried_out(checking, lab)
            problems += found
            if found and checking is check_finite:
                break  # the others would only find the same again
        changed += lab.changed
    return problems + [f"it changes the whole process: {change}" for change in dict.fromkeys(changed)]


def with_batch_size(factory: Callable[..., Gan], batch_size: int) -> Callable[..., Gan]:
    """The factory of the same model with another batch size. It leaves the process's settings alone."""

    def make(data: DataSpec, /, **hyper: Any) -> Gan:
        with settings.kept():
            return replace(factory(data, **hyper), batch_size=batch_size)

    return make


@dataclass(frozen=True)
class FullLab(Lab):
    """A lab that can also make the model with other hyperparameters."""

    make: Callable[..., Gan] = field(kw_only=True)
    """The factory."""
    hyper: Mapping[str, Any] = field(kw_only=True)
    """All hyperparameters."""


def check_signature(factory: Callable[..., Gan]) -> Iterator[str]:
    """Reading the signature."""
    if not isinstance(getattr(factory, "card", None), Card):
        yield "the factory has no card: decorate it with @baselines.gan.card(paper=..., year=...)"
    try:
        declared(factory)
    except TypeError as error:
        yield first_line(error)


def check_finite(lab: Lab) -> Iterator[str]:
    """Looking at the numbers."""
    after = f"after {lab.n_steps} iterations on noise"
    numbers = {f"the log {key!r}": torch.from_numpy(values) for key, values in lab.trained.history().items()}
    numbers |= state(lab.trained)
    for key, value in numbers.items():
        if not value.isfinite().all():
            yield f"{key} is not finite {after}"
    outputs = {"generate": lab.generate(5)}
    if lab.gan.discriminate is not None:
        outputs["discriminate"] = lab.discriminate(5)
    for name, output in outputs.items():
        if not output.isfinite().all():
            yield f"{name} gives values that are not finite {after}"


def check_updates(lab: Lab) -> Iterator[str]:
    """Making one update at a time."""
    for update in dict.fromkeys(lab.gan.updates):
        trainer = lab.trainer(gan=replace(lab.gan, updates=(update,)))
        plain = build(lab.gan, 0, lab.images.device)
        before = copied(_params(trainer))
        stream = trainer.streams[0]
        drawn = {name: value[0, 0] for name, value in stream.rewind(stream.state).items()}
        trainer.advance(1)
        moved = {key.split(".")[0] for key in differing(before, _params(trainer))}
        if update.net not in moved:
            yield f"an update of {update.net!r} moves none of its parameters"
        for other in sorted(moved - {update.net}):
            yield f"an update of {update.net!r} moves parameters of {other!r}"
        nets = {name: Plain(net) for name, net in plain.items()}
        step = torch.zeros((), dtype=torch.int64)
        loss, logs = update.loss(nets, lab.batch(drawn.pop("index"), step), drawn)
        for key, value in {"loss": loss, **logs}.items():
            if value.shape != ():
                yield f"an update of {update.net!r} gives {key!r} the shape {tuple(value.shape)}, not ()"
        for name, net in plain.items():
            for key, buffer in net.named_buffers():
                if not torch.allclose(buffer, trainer.buffers[name][key], atol=1e-5):
                    yield f"the buffer {name}.{key} is assigned, which the trainer loses: use copy_"


@dataclass(frozen=True)
class Plain:
    """A network without the trainer: its module owns its tensors."""

    module: nn.Module

    def __call__(self, *inputs: Tensor) -> Any:
        return self.module.train()(*inputs)

    def eval(self, *inputs: Tensor) -> Any:
        return self.module.eval()(*inputs)


def check_randomness(lab: Lab) -> Iterator[str]:
    """Training again from the same seed."""
    again = lab.trainer()
    with torch.random.fork_rng(devices=[]):
        before = torch.manual_seed(1).get_state()
        again.advance(2)
        if not torch.equal(torch.get_rng_state(), before):
            yield (
                "training draws from PyTorch's global generator, which the seeds of a stack share: declare "
                "the noise, and use Dropout from baselines.layers"
            )
            return
    for key in differing(state(lab.trained), state(again))[:1]:
        yield f"the same seed twice differs in {key}"


def check_stack(lab: Lab) -> Iterator[str]:
    """Training a stack of seeds."""
    gan = _with_sgd(lab.gan)
    stack = lab.trainer(0, 1, gan=gan)
    if not differing(_params(stack, 0), _params(stack, 1)):
        yield "two seeds start with the same parameters: initialise them from PyTorch's global generator"
    # A rounding error can move an activation across a kink, but hardly for three pairs of seeds.
    for seeds in ((0, 1), (2, 3), (4, 5)):
        gap = _stack_gap(lab, seeds, (gan, gan))
        if not gap:
            return
    yield f"seed {gap}"


def check_lanes(lab: FullLab) -> Iterator[str]:
    """Training a stack whose seeds differ in numbers."""
    other = dict(lab.hyper)
    for name, value in lab.hyper.items():
        half = value / 2 if isinstance(value, float) else value
        with suppress(ValueError):  # refused
            if may_differ(lab.make, lab.data, lab.hyper, name, half):
                other[name] = half
    gans = tuple(_with_sgd(lab.make(lab.data, **hyper)) for hyper in (lab.hyper, other))
    names = ", ".join(name for name in other if other[name] != lab.hyper[name])
    for seeds in ((0, 1), (2, 3), (4, 5)):
        gap = _stack_gap(lab, seeds, gans)
        if not gap:
            return
    yield (
        f"one of {names} changes an optimizer or a number of a loss, and something else too, so that a stack "
        f"cannot hold two values of it: seed {gap}"
    )


def _with_sgd(gan: Gan) -> Gan:
    return replace(gan, optim={name: SGD() for name in gan.optim})


def _stack_gap(lab: Lab, seeds: tuple[int, ...], gans: Sequence[Gan]) -> str:
    """In which tensor a stack's step differs from that of each seed alone; empty if in none."""
    stack = lab.trainer(*seeds, gan=gans[0], lanes=gans)
    stack.advance(1)
    for lane, (seed, gan) in enumerate(zip(seeds, gans, strict=True)):
        solo = lab.trainer(seed, gan=gan)
        before = copied(state(solo))
        solo.advance(1)
        stacked = state(stack, lane)
        for key, alone in state(solo).items():
            gap = (alone - stacked[key]).abs().max()
            allowed = ABSOLUTE + RELATIVE * (alone - before[key]).abs().max()
            if gap > (allowed if alone.is_floating_point() else 0):
                return f"{seed} alone and in a stack differ in {key} by {gap:.2g} after one iteration"
    return ""


@dataclass(frozen=True)
class SGD:
    """Plain gradient descent. Unlike Adam, it does not amplify rounding errors."""

    lr: float = 1e-3

    def make(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(list(params), self.lr)


def check_optimizers(lab: Lab) -> Iterator[str]:
    """Optimizing a stack of seeds."""
    rng = torch.Generator().manual_seed(0)
    start, slope = torch.randn(2, 3, 4, generator=rng), torch.randn(2, 3, 4, generator=rng)
    slope[1] *= 10
    for name, optim in lab.gan.optim.items():
        stacked = _optimized(optim, start, slope)
        lanes = [_optimized(optim, *pair) for pair in zip(start, slope, strict=True)]
        if not torch.allclose(stacked, torch.stack(lanes), atol=1e-6):
            yield f"the optimizer of {name!r} mixes the seeds of a stack: it must work element by element"


def _optimized(optim: Optimizer, start: Tensor, slope: Tensor) -> Tensor:
    param = start.clone().requires_grad_()
    optimizer = make_optimizer(optim, [param])
    for _ in range(2):
        param.grad = slope.clone()
        optimizer.step()
    return param.detach()


def check_state(lab: Lab) -> Iterator[str]:
    """Saving and going on."""
    trainer = lab.trained
    saved = copy.deepcopy(trainer.state_dict())
    trainer.advance(2)
    resumed = lab.trainer()
    resumed.load_state_dict([saved])
    resumed.advance(2)
    for key in differing(state(trainer), state(resumed))[:1]:
        yield (
            f"a saved and resumed run differs from an uninterrupted one in {key}: keep all that changes in "
            "parameters and buffers"
        )


CHECKS: tuple[Callable[[FullLab], Iterator[str]], ...] = (
    check_finite,
    check_updates,
    check_randomness,
    check_stack,
    check_lanes,
    check_optimizers,
    check_state,
)


# ---------------------------------------------------------------- helpers


def _params(trainer: Trainer, lane: int = 0) -> Tensors:
    """Every parameter of one lane by its full name."""
    held = state(trainer, lane)
    return {f"{net}.{key}": held[f"{net}.{key}"] for net, its in trainer.params.items() for key in its}


# ---------------------------------------------------------------- command line


class Parser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Check models by name on every shape; returns the exit code."""
    parser = Parser(prog="python -m baselines.conformance", description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a registered name or module:function")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="PARAM=VALUE", help="hyperparameters"
    )
    args = parser.parse_args(argv)
    models = []
    for name in args.models:
        try:
            factory = registry.get(name)
            models.append((name, factory, _hyper(factory, args.set)))
        except (LookupError, ValueError) as error:
            near = "" if name in registry.names() else registry.hint(name)
            print(f"error: {error.args[0]}{near}", file=sys.stderr)
            return 2
    broken = [_report(*model) for model in models]
    return int(any(broken))


def _hyper(factory: Callable[..., Gan], settings: Iterable[str]) -> dict[str, Any]:
    if not settings or list(check_signature(factory)):
        return {}
    known = declared(factory)
    hyper = {}
    for setting in settings:
        param, _, value = setting.partition("=")
        if param not in known:
            raise ValueError(f"--set {setting}: no hyperparameter {param!r}; known are {', '.join(known)}")
        try:
            hyper[param] = known[param].parse(value)
        except ValueError as error:
            raise ValueError(f"--set {setting}: {value!r} is not {error}") from error
    return hyper


def _report(name: str, factory: Callable[..., Gan], hyper: dict[str, Any]) -> bool:
    """Print one model's results. Returns whether something is wrong, or no shape fits."""
    print(name)
    fits, broken = False, False
    for channels, height, width in SHAPES:
        spec = f"{channels}x{height}x{width}"
        try:
            problems = check(factory, DataSpec(channels, height, width, N_CLASSES), **hyper)
        except ValueError as error:
            print(f"  {spec}: not for this model ({first_line(error)})")
            continue
        fits = True
        broken |= bool(problems)
        print(f"  {spec}: {'fine' if not problems else f'{len(problems)} problem(s)'}")
        for problem in problems:
            print(f"    - {problem}")
    if not fits:
        print("    - no shape fits: a model must build for at least one of them")
    return broken or not fits


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
