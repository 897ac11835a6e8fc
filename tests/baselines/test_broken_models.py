"""A model that breaks a rule of the interface is told which one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines import blame, conformance, registry
from baselines.gan import Adam, DataSpec, Gan, Update, card
from baselines.vanilla import d_real, g, vanilla

DATA = DataSpec(1, 8, 8, 10)
HERE = "tests/baselines/test_broken_models.py, line "


Factory = Callable[..., Gan]


def model(change: Callable[[Gan], Gan]) -> Factory:
    """A small vanilla GAN with one thing changed."""

    @card(paper="None", year=2020)
    def broken(data: DataSpec, *, latent_dim: int = 8) -> Gan:
        return change(vanilla(data, latent_dim=latent_dim, g_widths=(16, 32), d_widths=(16, 8)))

    return broken


def rebuilt(gan: Gan, **changes: Callable[[nn.Module], nn.Module]) -> Gan:
    """The same model with some networks wrapped after they are built."""

    def build() -> dict[str, nn.Module]:
        nets = gan.build()
        return nets | {name: change(nets[name]) for name, change in changes.items()}

    return replace(gan, build=build)


def relogged(gan: Gan, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Gan:
    """The same losses with other logs."""

    def log(update: Update) -> Update:
        def loss(*args: Any) -> tuple[Tensor, dict[str, Tensor]]:
            value, logs = update.loss(*args)
            return value, change(dict(logs))

        return replace(update, loss=loss)

    return replace(gan, updates=tuple(log(update) for update in gan.updates))


class Wrapped(nn.Module):
    """A network with something added."""

    calls: Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("calls", torch.zeros(()))
        self.offset = torch.randn(1)  # neither parameter nor buffer


class UsesGlobalDropout(Wrapped):
    def forward(self, x: Tensor) -> Any:
        return self.net(nn.functional.dropout(x, 0.5, self.training))


class AssignsBuffer(Wrapped):
    def forward(self, x: Tensor) -> Any:
        self.calls = self.calls + 1
        return self.net(x)


class HoldsPlainTensor(Wrapped):
    def forward(self, x: Tensor) -> Any:
        return self.net(x + self.offset)


class KeepsCount(Wrapped):
    """Its output depends on a Python number that is not in the state."""

    n = 0

    def forward(self, x: Tensor) -> Any:
        self.n += 1
        return self.net(x * (1 + 0.1 * self.n))


class HasUnusedParameter(Wrapped):
    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.unused = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


class Doubles(Wrapped):
    def forward(self, x: Tensor) -> Any:
        return 2 * self.net(x)


class DecaysItself(Wrapped):
    """Changes its own parameters in place in every call, also when another network is updated."""

    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            for param in self.net.parameters():
                param.mul_(0.9)
        return self.net(x)


class Branches(Wrapped):
    def forward(self, x: Tensor) -> Any:
        return self.net(x) if x.mean().item() > 0 else self.net(-x)


@dataclass(frozen=True)
class NormClipped:
    """Clips by the norm of a whole tensor, which in a stack mixes the seeds."""

    def make(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        params = list(params)

        class Optimizer(torch.optim.SGD):
            def step(self, closure: Any = None) -> None:  # type: ignore[override]
                nn.utils.clip_grad_norm_(params, 1.0)
                super().step()

        return Optimizer(params, 0.1)


def reads_label(nets: Any, batch: Any, draw: Any) -> tuple[Tensor, dict[str, Tensor]]:
    loss, logs = d_real(nets, batch, draw)
    return loss + 0 * batch["label"].sum(), logs


def draws_with_numpy(nets: Any, batch: Any, draw: Any) -> tuple[Tensor, dict[str, Tensor]]:
    loss, logs = d_real(nets, batch, draw)
    return loss * (1 + 0.1 * np.random.rand()), logs


def explodes(nets: Any, batch: Any, draw: Any) -> tuple[Tensor, dict[str, Tensor]]:
    loss, logs = d_real(nets, batch, draw)
    return loss / 0.0, {**logs, "d_loss": loss / 0.0}


def with_first(loss: Any) -> Callable[[Gan], Gan]:
    return lambda gan: replace(gan, updates=(Update("disc", loss), *gan.updates[1:]))


BROKEN: dict[str, tuple[Callable[[Gan], Gan], str]] = {
    "names a network that is not there": (
        lambda gan: replace(gan, updates=(*gan.updates, Update("critic", g))),
        "names 'critic', but build() makes gen, disc",
    ),
    "has no optimizer": (lambda gan: replace(gan, optim={"disc": Adam(1e-3)}), "'gen' have no optimizer"),
    "makes something else": (
        lambda gan: rebuilt(gan, disc=lambda net: net.forward),  # type: ignore[arg-type,return-value]
        "makes 'disc' a method, not a torch.nn.Module",
    ),
    "takes the trainer's name": (
        lambda gan: replace(gan, noise={**gan.noise, "index": gan.noise["z"]}),
        "cannot be called 'index'",
    ),
    "reads labels in secret": (with_first(reads_label), "card does not say needs={'label'}"),
    "has an idle parameter": (
        lambda gan: rebuilt(gan, disc=HasUnusedParameter),
        "an update of 'disc' does not use disc.unused (loss d_real, baselines/vanilla.py, line ",
    ),
    "logs no loss": (
        lambda gan: relogged(gan, lambda logs: {k: v for k, v in logs.items() if k != "g_loss"}),
        "no loss logs 'g_loss'",
    ),
    "logs no accuracy": (
        lambda gan: relogged(gan, lambda logs: {k: v for k, v in logs.items() if k != "d_acc_real"}),
        "no loss logs 'd_acc_real'",
    ),
    "logs an accuracy without a threshold": (
        lambda gan: replace(gan, threshold=None),
        "'d_acc_fake' is logged, but threshold=None",
    ),
    "logs percent": (
        lambda gan: relogged(gan, lambda logs: {k: v * 100 for k, v in logs.items()}),
        "'d_acc_real' is not a fraction between 0 and 1",
    ),
    "logs vectors": (
        lambda gan: relogged(gan, lambda logs: {k: v.expand(3) for k, v in logs.items()}),
        "gives 'd_loss' the shape (3,), not ()",
    ),
    "explodes": (with_first(explodes), "is not finite"),
    "leaves the range": (lambda gan: rebuilt(gan, gen=Doubles), "generate leaves [-1, 1]"),
    "samples the wrong shape": (
        lambda gan: replace(gan, generate=lambda nets, batch, draw: nets["gen"].eval(draw["z"]).flatten(1)),
        "generate gives (5, 64) for 5 examples, not (5, 1, 8, 8)",
    ),
    "samples in training mode": (
        lambda gan: replace(gan, generate=lambda nets, batch, draw: nets["gen"](draw["z"])),
        "generate changes gen.2.running_mean",
    ),
    "judges with a column": (
        lambda gan: replace(
            gan, discriminate=lambda nets, batch: nets["disc"].eval(batch["image"]).unsqueeze(1)
        ),
        "discriminate gives (5, 1) for 5 examples, not (5,)",
    ),
    "judges batches": (
        lambda gan: replace(
            gan,
            discriminate=lambda nets, batch: (s := nets["disc"].eval(batch["image"])) - s.mean(),
        ),
        "discriminate mixes the examples of a batch",
    ),
    "judges at random": (
        lambda gan: replace(
            gan,
            discriminate=lambda nets, batch: (s := nets["disc"].eval(batch["image"])) + torch.randn_like(s),
        ),
        "discriminate draws from PyTorch's global generator (randn_like in " + HERE,
    ),
    "moves another network": (
        lambda gan: rebuilt(gan, gen=DecaysItself),
        "an update of 'disc' moves parameters of 'gen', gen.net.0.weight (loss d_fake, ",
    ),
    "stands still": (
        lambda gan: replace(gan, optim={"gen": gan.optim["gen"], "disc": Adam(0.0)}),
        "an update of 'disc' moves none of its parameters",
    ),
    "assigns a buffer": (lambda gan: rebuilt(gan, gen=AssignsBuffer), "the buffer gen.calls is assigned"),
    "uses the global generator": (
        lambda gan: rebuilt(gan, disc=UsesGlobalDropout),
        "training draws from PyTorch's global generator (dropout in " + HERE,
    ),
    "uses NumPy's generator": (with_first(draws_with_numpy), "training draws from NumPy's global generator"),
    "keeps a count of its own": (
        lambda gan: rebuilt(gan, disc=KeepsCount),
        "differs from an uninterrupted one",
    ),
    "holds a plain tensor": (
        lambda gan: rebuilt(gan, disc=HoldsPlainTensor),
        "alone and in a stack differ in gen.",
    ),
    "asks for a number": (
        lambda gan: rebuilt(gan, disc=Branches),
        "cannot be stacked: Training a stack of seeds: RuntimeError: vmap: It looks like you're calling ",
    ),
    "clips by the norm": (
        lambda gan: replace(gan, optim={"gen": NormClipped(), "disc": NormClipped()}),
        "cannot be stacked: the optimizer of 'gen' mixes the seeds of a stack",
    ),
    "starts every seed alike": (
        lambda gan: replace(gan, build=lambda: seeded(gan)),
        "two seeds start with the same parameters",
    ),
    "crashes": (
        lambda gan: replace(gan, generate=lambda nets, batch, draw: nets["gen"].eval(draw["noise"])),
        "Generating: KeyError: 'noise'",
    ),
}


def seeded(gan: Gan) -> dict[str, nn.Module]:
    torch.manual_seed(7)
    return gan.build()


def test_the_unbroken_model_is_fine() -> None:
    assert conformance.check(model(lambda gan: gan), DATA) == []


@pytest.mark.parametrize("promise", BROKEN)
def test_broken_models_are_told_why(promise: str) -> None:
    change, message = BROKEN[promise]
    problems = conformance.check(model(change), DATA)
    assert any(message in problem for problem in problems), problems
    assert not any("\n" in problem for problem in problems)
    if any("global generator" in problem for problem in problems):
        assert len(problems) == 1, "the root cause alone"


def test_a_number_of_an_optimizer_must_be_that_alone() -> None:
    @card(paper="", year=2026)
    def mixed(data: DataSpec, *, lr: float = 0.4) -> Gan:
        gan = vanilla(data, g_widths=(8,), d_widths=(8,), lr=lr)
        return rebuilt(gan, gen=lambda net: nn.Sequential(net, Scaled(lr)))

    (found,) = conformance.check(mixed, DATA)
    assert found.startswith(
        "cannot be stacked: lr changes an optimizer or a number of a loss, and something else too"
    )


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@pytest.mark.slow
def test_command_line_names_what_breaks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = model(BROKEN["samples in training mode"][0])
    monkeypatch.setattr(registry, "get", lambda name: factory)
    assert conformance.main(["mine"]) == 1
    out = capsys.readouterr().out
    assert out.count("    - generate changes gen.2.running_mean and ") == 1
    assert out.count("problems, as above") + out.count("problem, as above") == 2


def test_command_line_parts_what_breaks_from_what_cannot_be_stacked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = model(BROKEN["asks for a number"][0])
    monkeypatch.setattr(registry, "get", lambda name: factory)
    monkeypatch.setattr(conformance, "SHAPES", ((1, 8, 8),))
    assert conformance.main(["mine"]) == 0
    out = capsys.readouterr().out
    assert "1x8x8: cannot be stacked, so its seeds train one at a time" in out
    assert f"({HERE}" in out
    assert "choose with torch.where" in out


def test_a_file_of_an_installed_package_is_named_from_the_package_on() -> None:
    assert blame.shown("/env/lib/python3.12/site-packages/mypkg/mygan.py") == "mypkg/mygan.py"
    assert blame.shown(str(Path.cwd() / "mygan.py")) == "mygan.py"
