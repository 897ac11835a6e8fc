"""Every model keeps the interface's promises, and a model that breaks one is told which."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from baselines import conformance, infogan, registry
from baselines.family import Net
from baselines.gan import Adam, DataSpec, Gan, Update, card
from baselines.vanilla import d_real, g, vanilla

EXAMPLE = Path(__file__).parents[1] / "support" / "example_package"
DATA = DataSpec(1, 8, 8, 10)
SMALL: dict[str, dict[str, Any]] = {
    "srgan": {"n_blocks": 1, "width": 8},
    "dcgan": {"width": 16},
    "acgan": {"width": 16},
    "vanilla": {"g_widths": (32, 64), "d_widths": (32, 16)},
    "cgan": {"g_widths": (32, 64), "d_widths": (32, 32, 32)},
}
"""Narrow networks where a hyperparameter allows it: the promises do not depend on the width."""
FAMILY = tuple(name for name in registry.OURS if name not in SMALL)


@pytest.mark.parametrize("shape", conformance.SHAPES, ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_models_conform(name: str, shape: tuple[int, int, int]) -> None:
    assert conformance.check(registry.get(name), DataSpec(*shape, 10), **SMALL[name]) == []


@pytest.mark.parametrize("shape", conformance.SHAPES, ids=str)
@pytest.mark.parametrize("net", get_args(Net))
@pytest.mark.parametrize("name", FAMILY)
def test_loss_family_conforms_on_every_network(
    name: str, net: str, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infogan, "DENSE", 64)
    assert conformance.check(registry.get(name), DataSpec(*shape, 10), net=net, n_critic=2) == []


@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        ("nsgan", {"disc_norm": "batch"}),
        ("nsgan", {"disc_norm": "spectral", "net": "conv"}),
        ("nsgan", {"prior": "uniform"}),
        ("lsgan", {"sigmoid": True}),
        ("wgan", {"optimizer": "adam"}),
        ("wgan", {"disc_norm": "own", "net": "conv"}),
        ("hinge", {"disc_norm": "none"}),
        ("cgan", {"condition": "multiply", "dropout": 0.4, "g_widths": (32, 64), "d_widths": (32, 32)}),
        ("srgan", {"n_blocks": 1, "width": 4, "scale": 4, "warmup_steps": 1}),
    ],
    ids=str,
)
def test_options_conform(name: str, hyper: dict[str, Any]) -> None:
    assert conformance.check(registry.get(name), DATA, **hyper) == []


# ---------------------------------------------------------------- models that break a promise

Factory = Callable[..., Gan]


def model(change: Callable[[Gan], Gan]) -> Factory:
    """A small vanilla GAN with one thing changed."""

    @card(paper="None", year=2020)
    def broken(data: DataSpec, *, latent_dim: int = 8) -> Gan:
        return change(vanilla(data, latent_dim=latent_dim, g_widths=(16, 32), d_widths=(16, 8)))

    return broken


def rebuilt(gan: Gan, **changes: Callable[[nn.Module], nn.Module]) -> Gan:
    """Networks wrapped after building."""

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
    """What it computes depends on a Python number that no state_dict holds."""

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
    """Changes its own parameters in place whenever it is called, whoever is being updated."""

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
    """Clips by the norm of a whole tensor, which in a stack is everybody's."""

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
        "does not depend on every parameter",
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
        "discriminate gives other values when called again",
    ),
    "moves another network": (
        lambda gan: rebuilt(gan, gen=DecaysItself),
        "an update of 'disc' moves parameters of 'gen'",
    ),
    "stands still": (
        lambda gan: replace(gan, optim={"gen": gan.optim["gen"], "disc": Adam(0.0)}),
        "an update of 'disc' moves none of its parameters",
    ),
    "assigns a buffer": (lambda gan: rebuilt(gan, gen=AssignsBuffer), "the buffer gen.calls is assigned"),
    "uses the global generator": (
        lambda gan: rebuilt(gan, disc=UsesGlobalDropout),
        "draws from PyTorch's global generator",
    ),
    "keeps a count of its own": (
        lambda gan: rebuilt(gan, disc=KeepsCount),
        "differs from an uninterrupted one",
    ),
    "holds a plain tensor": (lambda gan: rebuilt(gan, disc=HoldsPlainTensor), "alone and in a stack differ"),
    "asks for a number": (
        lambda gan: rebuilt(gan, disc=Branches),
        "Training a stack of seeds: RuntimeError: vmap: It looks like you're calling .item()",
    ),
    "clips by the norm": (
        lambda gan: replace(gan, optim={"gen": NormClipped(), "disc": NormClipped()}),
        "mixes the seeds of a stack",
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


def test_a_number_of_an_optimizer_must_be_that_alone() -> None:
    @card(paper="", year=2026)
    def mixed(data: DataSpec, *, lr: float = 0.4) -> Gan:
        gan = vanilla(data, g_widths=(8,), d_widths=(8,), lr=lr)
        return rebuilt(gan, gen=lambda net: nn.Sequential(net, Scaled(lr)))

    (found,) = conformance.check(mixed, DATA)
    assert found.startswith("one of lr changes an optimizer or a number of a loss, and something else too")


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def test_signatures_that_cannot_be_read() -> None:
    def bare(data: DataSpec, *, width=3) -> Gan:  # type: ignore[no-untyped-def]
        raise NotImplementedError

    def strange(data: DataSpec, *, widths: dict[str, int] = {}) -> Gan:  # noqa: B006
        raise NotImplementedError

    def open_ended(data: DataSpec, *, width: int) -> Gan:
        raise NotImplementedError

    def mistyped(data: DataSpec, *, width: int = 0.5) -> Gan:  # type: ignore[assignment]
        raise NotImplementedError

    assert any("no card" in problem for problem in conformance.check(vanilla_without_card, DATA))
    decorate = card(paper="None", year=2020)
    for factory, message in (
        (bare, "needs a type annotation"),
        (strange, "widths: its default {} cannot be read"),
        (open_ended, "width has no default"),
        (mistyped, "width: its default 0.5 cannot be read as <class 'int'>"),
    ):
        problems = conformance.check(decorate(factory), DATA)
        assert any(message in problem for problem in problems), problems


def vanilla_without_card(data: DataSpec) -> Gan:
    return vanilla(data)


# ---------------------------------------------------------------- command line


def test_command_line_says_fine(capsys: pytest.CaptureFixture[str]) -> None:
    code = conformance.main(["vanilla", "--set", "g_widths=16,32", "d_widths=16,8"])
    assert code == 0
    assert capsys.readouterr().out.count("fine") == 3


def test_command_line_names_what_breaks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = model(BROKEN["samples in training mode"][0])
    monkeypatch.setattr(registry, "get", lambda name: factory)
    assert conformance.main(["mine"]) == 1
    assert "    - generate changes gen.2.running_mean: call the networks' eval" in capsys.readouterr().out


def test_command_line_knows_a_shape_that_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @card(paper="None", year=2020)
    def choosy(data: DataSpec) -> Gan:
        if data.height != 8:
            raise ValueError("8x8 only")
        return vanilla(data, g_widths=(16,), d_widths=(16,))

    monkeypatch.setattr(registry, "get", lambda name: choosy)
    assert conformance.main(["choosy"]) == 0
    out = capsys.readouterr().out
    assert "1x8x8: fine" in out
    assert "1x28x28: not for this model (8x8 only)" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nosuchgan"], "'nosuchgan'"),
        (["vanilla", "vanila"], "did you mean 'vanilla'?"),
        (["nosuch.module:gan"], "nosuch.module"),
        (["baselines.vanilla:nosuch"], "nosuch"),
        (["baselines.vanilla:dense"], "not a model"),
        (["vanilla", "--set", "depth=3"], "no hyperparameter 'depth'"),
        (["vanilla", "--set", "latent_dim=many"], "'many' is not a whole number"),
        (["nsgan", "--set", "net=cnn"], "'cnn' is not one of mlp, conv, infogan"),
    ],
    ids=str,
)
def test_command_line_refuses_wrong_requests(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conformance.main(argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


# ---------------------------------------------------------------- a package from outside


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package installed in it."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "example"
    shutil.copytree(EXAMPLE, source)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, "--no-build-isolation", "--target", target, source], check=True)
    return target


def test_an_outside_model_is_found_and_conforms(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(conformance, "SHAPES", ((1, 8, 8),))
    assert registry.names() == (*registry.OURS, "rgan")
    assert registry.card(registry.get("rgan")).year == 2018
    assert conformance.main(["rgan", "example_gan.rgan:rgan"]) == 0
    assert capsys.readouterr().out.count("fine") == 2


def test_the_example_is_short() -> None:
    source = (EXAMPLE / "example_gan" / "rgan.py").read_text()
    lines = [line for line in source.splitlines() if line.strip()]
    assert len(lines) <= 30
