"""A model that would be scored wrongly, or fail after hours, is refused before it trains."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
import torch
from data_checks import NOWHERE
from torch import Tensor, nn

from baselines import probe, registry
from baselines.gan import DataSpec, Gan, Update
from baselines.training import settings
from baselines.training.trainer import Trainer
from baselines.vanilla import vanilla
from bench.data import datasets
from bench.scoring.evaluator import Evaluator, NonFiniteSamplesError, OutputError

DATA = DataSpec(1, 8, 8)
SMALL: dict[str, Any] = {"g_widths": (16,), "d_widths": (16,)}

MODEL = """
from dataclasses import replace

import torch

from baselines.gan import DataSpec, Gan, Update, card
from baselines.vanilla import vanilla

SMALL = {"g_widths": (16,), "d_widths": (16,)}
LARGE = vanilla(DataSpec(1, 32, 32), **SMALL)


def build(gan):
    disc = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(8), gan.build()["disc"])
    return {"gen": LARGE.build()["gen"], "disc": disc}


def slope(nets, z):
    z = z.requires_grad_()
    return torch.autograd.grad(nets["gen"].eval(z).sum(), z)[0]


def unlogged(loss):
    def without(*args):
        value, logs = loss(*args)
        return value, {key: log for key, log in logs.items() if key != "d_acc_real"}

    return without


@card(paper="None", year=2020)
def model(data: DataSpec) -> Gan:
    gan = vanilla(data, **SMALL)
    d_real, *others = gan.updates
    return replace(gan, CHANGE)
"""
WRONG = {
    "makes images of 32x32": (
        "build=lambda: build(gan)",
        "generate gives (5, 1, 32, 32) for 5 examples, not (5, 1, 8, 8)",
    ),
    "makes two images for each": (
        "generate=lambda nets, batch, draw: nets['gen'].eval(torch.cat([draw['z'], draw['z']]))",
        "generate gives (10, 1, 8, 8) for 5 examples, not (5, 1, 8, 8)",
    ),
    "leaves the range": (
        "generate=lambda nets, batch, draw: 127.5 * nets['gen'].eval(draw['z'])",
        "generate leaves [-1, 1]: ",
    ),
    "makes low-resolution images of another shape": (
        "low_resolution=lambda batch: batch['image'].flatten(1)[:, :16]",
        "low_resolution gives (5, 16) for 5 examples, not (5, 1, 8, 8)",
    ),
    "reads the step when it samples": (
        "generate=lambda nets, batch, draw: nets['gen'].eval(draw['z'] + batch['step'])",
        "Generating: KeyError: 'step'",
    ),
    "needs gradients when it samples": (
        "generate=lambda nets, batch, draw: slope(nets, draw['z'])",
        "Generating: RuntimeError: ",
    ),
    "logs no accuracy": (
        "updates=(Update('disc', unlogged(d_real.loss)), *others)",
        "no loss logs 'd_acc_real'",
    ),
}


def models_are_here() -> None:
    """For ``before``: as ``python -m`` does."""
    sys.path.insert(0, str(Path.cwd()))


@pytest.mark.parametrize("wrong", WRONG)
def test_a_model_that_cannot_be_scored_is_refused_by_the_command(tmp_path: Path, wrong: str) -> None:
    change, says = WRONG[wrong]
    (tmp_path / "mine.py").write_text(MODEL.replace("CHANGE", change))
    words = ("--models", "mine:model", "--dataset", "digits", "--offline", "--steps", "5")
    done = commands.run(tmp_path, *words, before=models_are_here)
    assert done.err.startswith(f"error: --models: mine:model cannot be trained on digits: {says}")
    assert done.err.count("\n") == 1
    assert done.process.exitcode == 2
    assert not (tmp_path / "results" / "runs").exists()


# ---------------------------------------------------------------- what is no problem


def tried(change: Callable[[Gan], Gan], **hyper: Any) -> tuple[list[str], list[str]]:
    """The problems of a small vanilla GAN with one thing changed, and what it changes for the process."""

    def factory(data: DataSpec, **hyper: Any) -> Gan:
        return change(vanilla(data, **SMALL, **hyper))

    trial = probe.try_out(factory, DATA, hyper, labelled=False)
    return trial.problems, trial.changed


class Packed(nn.Module):
    """A discriminator that takes eight images at once (PacGAN): the batch must be a multiple of eight."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images.reshape(-1, 8, 1, 8, 8).mean(dim=1)) if self.training else self.net(images)


def test_a_model_that_needs_its_own_batch_size_gets_it() -> None:
    def packed(gan: Gan) -> Gan:
        return replace(gan, build=lambda: {**(nets := gan.build()), "disc": Packed(nets["disc"])})

    assert tried(packed, batch_size=16) == ([], [])
    found, _ = tried(packed, batch_size=12)
    assert found
    assert found[0].startswith("Training on noise: RuntimeError: shape")


def test_what_diverges_is_left_to_the_run() -> None:
    def exploding(gan: Gan) -> Gan:
        d = gan.updates[0]

        def loss(*args: Any) -> Any:
            value, logs = d.loss(*args)
            return value * torch.nan, logs

        return replace(gan, updates=(Update("disc", loss), *gan.updates[1:]))

    def nan_images(gan: Gan) -> Gan:
        return replace(gan, generate=lambda nets, batch, draw: nets["gen"].eval(draw["z"]) * torch.nan)

    assert tried(exploding) == ([], [])
    assert tried(nan_images) == ([], [])
    for lr in (1e-30, 1e30):
        assert tried(lambda gan: gan, lr=lr) == ([], [])


@pytest.mark.parametrize("name", registry.OURS)
def test_our_models_pass_and_leave_no_trace(name: str) -> None:
    factory = registry.get(name)
    data = DataSpec(1, 8, 8, 10)
    before = settings.read(), torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    with settings.isolated() as touched:
        labelled = "label" in registry.card(factory).needs
        trial = probe.try_out(factory, data, {}, labelled=labelled)
    assert (trial.problems, trial.changed) == ([], [])
    after = settings.read(), torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    assert touched == []
    assert torch.equal(before[1], after[1])
    assert (before[0], before[2:]) == (after[0], after[2:])


# ---------------------------------------------------------------- when it is scored


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (
            {"generate": lambda fakes: torch.cat([fakes, fakes])},
            OutputError,
            r"generate gives \(1000, 1, 8, 8\)",
        ),
        (
            {"generate": lambda fakes: fakes.repeat(1, 1, 4, 4)},
            OutputError,
            r"generate gives \(500, 1, 32, 32\)",
        ),
        (
            {"generate": lambda fakes: fakes.repeat(1, 3, 1, 1)},
            OutputError,
            r"generate gives \(500, 3, 8, 8\)",
        ),
        ({"generate": lambda fakes: 127.5 * (fakes + 1)}, OutputError, r"generate leaves \[-1, 1\]: "),
        (
            {"generate": lambda fakes: (fakes * 100).long()},
            OutputError,
            "generate gives torch.int64, not floats",
        ),
        ({"generate": lambda fakes: fakes * torch.nan}, NonFiniteSamplesError, "not finite"),
        ({"generate": lambda fakes: fakes.numpy()}, OutputError, "generate gives a ndarray, not a tensor"),
        ({"discriminate": lambda s: s[:, None]}, OutputError, r"discriminate gives \(360, 1\)"),
        ({"discriminate": lambda s: s[:-1]}, OutputError, r"discriminate gives \(359,\) for 360"),
    ],
)
def test_what_is_scored_is_checked_again(change: dict[str, Any], error: type[Exception], says: str) -> None:
    dataset = datasets.load("digits", data_root=NOWHERE)
    evaluator = Evaluator(dataset, "test", {}, NOWHERE, torch.device("cpu"))
    gan = vanilla(dataset.spec, **SMALL)
    images = torch.from_numpy(dataset.train.images)
    nets = Trainer(gan, images, None, [0]).nets()
    evaluator.evaluate(gan, nets, seed=0)

    def changed(name: str, how: Callable[[Any], Any]) -> Callable[..., Any]:
        return lambda *args: how(getattr(gan, name)(*args))

    wrong = replace(gan, **{name: changed(name, how) for name, how in change.items()})
    with pytest.raises(error, match=says):
        evaluator.evaluate(wrong, nets, seed=0)


def test_half_a_grey_level_beyond_the_range_is_none() -> None:
    image = torch.full((2, 1, 8, 8), 1.002)
    assert probe.wrong_output("generate", image, 2, (1, 8, 8)) is None
    assert probe.wrong_output("generate", -image * 1.01, 2, (1, 8, 8)) is not None
