"""Checks that a model does what the interface asks of it.

    python -m baselines.conformance vanilla mypkg.mygan:mygan --set net=conv

prints what is wrong, for each image shape, and whether seeds can train together as a stack. Exit codes: 0 all
models can be run, 1 something is wrong with a model, 2 the request was wrong.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch

from baselines import blame, registry
from baselines.blame import DECLARE, GlobalDraws
from baselines.gan import Card, DataSpec, Gan
from baselines.hyperparameters import declared
from baselines.probe import (
    Lab,
    carried_out,
    copied,
    differing,
    first_line,
    on_modules,
    params,
    random_examples,
    state,
    try_out,
)
from baselines.stackable import (
    BATCH_SIZE,
    FullLab,
    check_lanes,
    check_optimizers,
    check_stack,
    tried,
    with_batch_size,
)
from baselines.training import settings
from baselines.training.trainer import build

SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32))
N_CLASSES = 10

# ---------------------------------------------------------------- the checks


@dataclass(frozen=True)
class Findings:
    """What the checks found, one sentence each."""

    broken: list[str]
    """What makes a run fail, or its numbers wrong, wherever it is trained."""
    unstackable: list[str]
    """What keeps seeds from training together as one stack. They train one at a time."""


def check(factory: Callable[..., Gan], data: DataSpec, /, **hyper: Any) -> list[str]:
    """What :func:`examine` finds, in one list; empty where nothing is wrong."""
    found = examine(factory, data, **hyper)
    return [*found.broken, *(f"cannot be stacked: {problem}" for problem in found.unstackable)]


def examine(factory: Callable[..., Gan], data: DataSpec, /, **hyper: Any) -> Findings:
    """What is wrong with a model on data of this shape.

    First the trial that ``bench`` makes before it plans a run, then the checks of this file. Randomness that
    is not declared makes most of them fail, so it is looked for first, and reported alone.

    Raises:
        ValueError: the factory refuses the data or a hyperparameter, as it may.
    """
    if problems := list(check_signature(factory)):
        return Findings(problems, [])
    hyper = {name: one.default for name, one in declared(factory).items()} | hyper
    labelled = "label" in registry.card(factory).needs
    trial = try_out(factory, data, hyper, labelled=labelled)
    found, changed = Findings(trial.problems, []), [*registry.side_effects(factory), *trial.changed]
    if trial.gan is not None and trial.trains:
        make = with_batch_size(factory, BATCH_SIZE if trial.any_batch else trial.gan.batch_size)
        examples = random_examples(data, labelled=labelled)
        lab = FullLab(make(data, **hyper), *examples, data, make=make, hyper=hyper)
        found = _examined(lab, trial.problems)
        changed += lab.changed
    found.broken.extend(f"it changes the whole process: {change}" for change in dict.fromkeys(changed))
    return found


def _examined(lab: FullLab, problems: list[str]) -> Findings:
    """What the checks find beside the ``problems`` of the trial."""
    if causes := carried_out(check_randomness, lab):
        return Findings(causes, [])
    problems = [*problems, *(found := carried_out(check_finite, lab))]
    if found:
        return Findings(problems, [])  # the others would only find the same again
    for checking in (check_updates, check_seeds, check_state):
        problems += carried_out(checking, lab)
    unstackable = tried(check_stack, lab)
    for more in () if unstackable else (check_lanes, check_optimizers):
        unstackable += tried(more, lab)
    return Findings(problems, unstackable)


def check_signature(factory: Callable[..., Gan]) -> Iterator[str]:
    """Reading the signature."""
    if not isinstance(getattr(factory, "card", None), Card):
        yield "the factory has no card: decorate it with @baselines.gan.card(paper=..., year=...)"
    try:
        declared(factory)
    except TypeError as error:
        yield first_line(error)


def check_randomness(lab: Lab) -> Iterator[str]:
    """Looking for randomness that is not declared."""
    again, draws, before = lab.trainer(), GlobalDraws(), settings.streams()
    with draws:
        again.advance(lab.n_steps)
    moved = [name for name, now in settings.streams().items() if now != before[name]]
    for name in moved:
        how = f" ({draws.first})" if name == "PyTorch" and draws.first else ""
        yield f"training draws from {name}'s global generator{how}: {DECLARE}"
    for key in differing(state(lab.trained), state(again))[:1] if not moved else ():
        yield (
            f"the same seed twice differs in {key}: draw from nothing but declared noise, and keep all that "
            "changes in parameters and buffers"
        )


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
        of = f"an update of {update.net!r}"
        trainer = lab.trainer(gan=replace(lab.gan, updates=(update,)))
        plain = build(lab.gan, 0, lab.images.device)
        before = copied(params(trainer))
        trainer.advance(1)
        moved, by = differing(before, params(trainer)), f" ({blame.of_loss(update.loss)})"
        nets = {key.split(".")[0] for key in moved}
        if update.net not in nets:
            yield f"{of} moves none of its parameters{by}: is the loss detached, or its learning rate 0?"
        for other in sorted(nets - {update.net}):
            which = next(key for key in moved if key.startswith(f"{other}."))
            yield f"{of} moves parameters of {other!r}, {which}{by}: losses may change buffers only"
        loss, logs = on_modules(lab, update, plain)
        for key, value in {"loss": loss, **logs}.items():
            if value.shape != ():
                yield f"{of} gives {key!r} the shape {tuple(value.shape)}, not (){by}"
        for name, net in plain.items():
            for key, buffer in net.named_buffers():
                if not torch.allclose(buffer, trainer.buffers[name][key], atol=1e-5):
                    yield f"the buffer {name}.{key} is assigned, which the trainer loses: use copy_"


def check_seeds(lab: Lab) -> Iterator[str]:
    """Building two seeds."""
    if not differing(params(lab.trainer(0)), params(lab.trainer(1))):
        yield "two seeds start with the same parameters: initialise them from PyTorch's global generator"


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
    before: Findings | None = None
    for channels, height, width in SHAPES:
        spec = f"{channels}x{height}x{width}"
        try:
            found = examine(factory, DataSpec(channels, height, width, N_CLASSES), **hyper)
        except ValueError as error:
            print(f"  {spec}: not for this model ({first_line(error)})")
            continue
        fits = True
        broken |= bool(found.broken)
        print(f"  {spec}: {_verdict(found, before)}")
        if found != before:
            for problem in (*found.broken, *found.unstackable):
                print(f"    - {problem}")
        before = found
    if not fits:
        print("    - no shape fits: a model must build for at least one of them")
    return broken or not fits


def _verdict(found: Findings, before: Findings | None) -> str:
    """What one shape comes to, in words. ``before``: what was found at the shape before."""
    if not found.broken and not found.unstackable:
        return "fine"
    again = ", as above" if found == before else ""
    if not found.broken:
        return f"cannot be stacked, so its seeds train one at a time (docs/writing-losses.md){again}"
    n = len(found.broken) + len(found.unstackable)
    return f"{n} problem{'s'[: n > 1]}{again}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
