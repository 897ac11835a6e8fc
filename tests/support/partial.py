"""Models without some of the usual parts, and models that misbehave: ``--models partial:regression``."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.gan import Adam, Batch, DataSpec, Draw, Gan, Nets, Normal, Update, card
from baselines.vanilla import generator, vanilla

Logged = tuple[Tensor, Mapping[str, Tensor]]


def small(data: DataSpec, **changes: Any) -> Gan:
    """A vanilla GAN of 16 units with some things changed."""
    return replace(vanilla(data, g_widths=(16,), d_widths=(16,), batch_size=32), **changes)


class Balance(nn.Module):
    """A number in [0, 1] that training moves, as BEGAN's k does: a buffer, no parameter."""

    k: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("k", torch.full((), 0.5))

    def forward(self, *change: Tensor) -> Tensor:
        """k (); first moved by ``change``, if that is given."""
        if change:
            self.k.copy_((self.k + change[0]).clamp(0, 1))
        return self.k.clone()


@card(paper="A vanilla GAN with a weight on its loss of fakes", year=2017)
def balanced(data: DataSpec, *, dies_at: int = 0) -> Gan:
    """The network ``balance`` has state, and no optimizer. ``dies_at``: at this call of the first loss the
    process is killed, once: ``PARTIAL_MARKER`` is a file that says it was."""
    gan = small(data)
    first, second, third = gan.updates
    calls = 0

    def d_real(nets: Nets, batch: Batch, draw: Draw) -> Logged:
        nonlocal calls
        calls += 1
        if calls == dies_at and not (marker := Path(os.environ["PARTIAL_MARKER"])).exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        loss, logs = first.loss(nets, batch, draw)
        k = nets["balance"](0.01 * (1 - loss.detach()))
        return loss, {**logs, "k": k}

    def d_fake(nets: Nets, batch: Batch, draw: Draw) -> Logged:
        loss, logs = second.loss(nets, batch, draw)
        return nets["balance"]() * loss, logs

    return replace(
        gan,
        build=lambda: {**gan.build(), "balance": Balance()},
        updates=(Update("disc", d_real), Update("disc", d_fake), third),
    )


@card(paper="A vanilla GAN with a loss on the features of a fixed network", year=2016)
def extracted(data: DataSpec) -> Gan:
    """The network ``features`` has parameters, and no optimizer: it stays as it was initialised."""
    gan = small(data)

    def build() -> dict[str, nn.Module]:
        features = nn.Sequential(nn.Flatten(), nn.Linear(data.n_pixels, 8), nn.Tanh())
        return {**gan.build(), "features": features.requires_grad_(False)}

    def g(nets: Nets, batch: Batch, draw: Draw) -> Logged:
        real, fake = nets["features"](batch["image"]), nets["features"](nets["gen"](draw["z"]))
        loss = F.mse_loss(fake.mean(0), real.mean(0))
        return loss, {"g_loss": loss}

    return replace(gan, build=build, updates=(*gan.updates[:2], Update("gen", g)))


@card(paper="A generator that learns the mean image", year=2000)
def regression(data: DataSpec) -> Gan:
    """No discriminator."""

    def g(nets: Nets, batch: Batch, draw: Draw) -> Logged:
        loss = F.mse_loss(nets["gen"](draw["z"]), batch["image"])
        return loss, {"g_loss": loss}

    return Gan(
        build=lambda: {"gen": generator(8, (16,), data)},
        noise={"z": Normal((8,))},
        updates=(Update("gen", g),),
        generate=lambda nets, batch, draw: nets["gen"].eval(draw["z"]),
        optim={"gen": Adam(1e-3)},
        batch_size=32,
    )


@card(paper="A vanilla GAN that warns", year=2014)
def warning(data: DataSpec) -> Gan:
    """Warnings when it is made and when it is built."""
    gan = small(data)

    def build() -> dict[str, nn.Module]:
        warnings.warn("the networks are small", stacklevel=1)
        return gan.build()

    warnings.warn("an old name is used", stacklevel=1)
    return replace(gan, build=build)


@card(paper="A vanilla GAN with a network that has no units", year=2014)
def empty(data: DataSpec) -> Gan:
    """A layer of no units in the generator."""
    gan = small(data)

    def build() -> dict[str, nn.Module]:
        return {**gan.build(), "gen": generator(100, (16, 0, 16), data)}

    return replace(gan, build=build)


@card(paper="A vanilla GAN whose code ends the process", year=2014)
def exits(data: DataSpec, *, where: Literal["factory", "build", "loss"] = "factory") -> Gan:
    """Calls ``sys.exit`` where it is told to."""
    gan = small(data)
    d = gan.updates[0].loss

    def build() -> dict[str, nn.Module]:
        return sys.exit("no networks today") if where == "build" else gan.build()

    def loss(nets: Nets, batch: Batch, draw: Draw) -> Logged:
        return sys.exit() if where == "loss" else d(nets, batch, draw)

    if where == "factory":
        sys.exit(3)
    return replace(gan, build=build, updates=(Update("disc", loss), *gan.updates[1:]))


@card(paper="A vanilla GAN that logs the step", year=2014)
def logs_step(data: DataSpec) -> Gan:
    """A log has the name of a column that the harness writes."""
    gan = small(data)

    def loss(nets: Nets, batch: Batch, draw: Draw) -> Logged:
        value, logs = gan.updates[0].loss(nets, batch, draw)
        return value, {**logs, "step": batch["step"]}

    return replace(gan, updates=(Update("disc", loss), *gan.updates[1:]))


@card(paper="A vanilla GAN without discriminate that logs an accuracy", year=2014)
def accuracy_of_nothing(data: DataSpec) -> Gan:
    """Its D accuracy is of a discriminator that it does not have."""
    return small(data, discriminate=None)


@card(paper="A vanilla GAN with a frozen layer in its discriminator", year=2014)
def frozen_layer(data: DataSpec) -> Gan:
    """The optimizer would move the frozen layer as well."""
    gan = small(data)

    def build() -> dict[str, nn.Module]:
        nets = gan.build()
        next(nets["disc"].parameters()).requires_grad_(False)
        return nets

    return replace(gan, build=build)
