"""Our models and a model from outside conform; what the command prints."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from torch import nn

import baselines.vanilla as vanilla_networks
from baselines import conformance, dcgan, infogan, registry
from baselines.family import Net
from baselines.gan import DataSpec, Gan, card
from baselines.vanilla import vanilla

EXAMPLE = Path(__file__).parents[1] / "support" / "example_package"
DATA = DataSpec(1, 8, 8, 10)
SMALL: dict[str, dict[str, Any]] = {
    "srgan": {"n_blocks": 1, "width": 8},
    "vae": {},
    "infogan_mi": {"n_continuous": 1},
    "sngan": {"width": 4, "n_critic": 1},
    "sngan_projection": {"width": 4, "n_critic": 1},
    "dcgan": {"width": 16},
    "acgan": {"width": 16},
    "vanilla": {"g_widths": (32, 64), "d_widths": (32, 16)},
    "cgan": {"g_widths": (32, 64), "d_widths": (32, 32, 32)},
}
"""Narrow networks, for speed: what is checked does not depend on the width."""
FAMILY = tuple(name for name in registry.OURS if name not in SMALL)


SHAPES = {
    "vae": ((1, 28, 28),),
    "infogan_mi": ((1, 8, 8),),
    "sngan": ((1, 8, 8), (3, 32, 32)),
    "sngan_projection": ((1, 28, 28),),
}
"""Models on networks that others are tried on, too, or that they share, need not be tried on each shape."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, shape) for name in SMALL for shape in SHAPES.get(name, conformance.SHAPES)],
    ids=str,
)
def test_models_conform(name: str, shape: tuple[int, int, int]) -> None:
    assert conformance.check(registry.get(name), DataSpec(*shape, 10), **SMALL[name]) == []


PAIRS = [
    (name, net, shape)
    for i, name in enumerate(FAMILY)
    for j, net in enumerate(get_args(Net))
    for k, shape in enumerate(conformance.SHAPES)
    if (i + j + k) % 3 == 0
]
"""Each loss with each network, and with each shape; each network with each shape."""


def narrow(part: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """A network whose hidden layers have an eighth of the units."""

    def made(*arguments: Any, **options: Any) -> nn.Module:
        return part(
            *(tuple(n // 8 for n in each) if isinstance(each, tuple) else each for each in arguments),
            **options,
        )

    return made


@pytest.mark.slow
@pytest.mark.parametrize(("name", "net", "shape"), PAIRS, ids=str)
def test_loss_family_conforms_on_every_network(
    name: str, net: str, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infogan, "DENSE", 64)
    for module in (vanilla_networks, dcgan):
        for part in ("generator", "discriminator"):
            monkeypatch.setattr(module, part, narrow(getattr(module, part)))
    assert conformance.check(registry.get(name), DataSpec(*shape, 10), net=net, n_critic=2) == []


@pytest.mark.slow
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
        ("vae", {"net": "conv"}),
        ("vae", {"encoder_norm": "batch", "net": "infogan"}),
        ("began", {"disc_norm": "batch", "net": "infogan"}),
        ("pacgan", {"packing": 3, "batch_size": 4, "disc_norm": "batch"}),
        ("cgan", {"condition": "multiply", "dropout": 0.4, "g_widths": (32, 64), "d_widths": (32, 32)}),
        ("srgan", {"n_blocks": 1, "width": 4, "scale": 4, "warmup_steps": 1}),
    ],
    ids=str,
)
def test_options_conform(name: str, hyper: dict[str, Any]) -> None:
    assert conformance.check(registry.get(name), DATA, **hyper) == []


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


@pytest.mark.slow
def test_command_line_says_fine(capsys: pytest.CaptureFixture[str]) -> None:
    code = conformance.main(["vanilla", "--set", "g_widths=16,32", "d_widths=16,8"])
    assert code == 0
    assert capsys.readouterr().out.count("fine") == 3


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


@pytest.mark.slow
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
