"""A model that goes wrong on purpose: ``--models faults:faulty --set faults:faulty.fault=raises``."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from baselines.gan import Batch, DataSpec, Draw, Gan, Nets, Update, card
from baselines.vanilla import vanilla

Fault = Literal[
    *("none", "raises", "starves", "dies", "dies once", "sleeps", "hangs"),
    *("nan", "explodes", "collapses", "nan images"),
]
Logged = tuple[Tensor, Mapping[str, Tensor]]


@card(paper="A vanilla GAN of 16 units, with a fault", year=2014)
def faulty(
    data: DataSpec,
    *,
    fault: Fault = "none",
    at: int = 30,
    batch_size: int = 32,
) -> Gan:
    """A small vanilla GAN whose first loss does ``fault`` from its ``at``-th call in a process on."""
    gan = vanilla(data, g_widths=(16,), d_widths=(16,), batch_size=batch_size)
    first, *others = gan.updates
    calls = 0

    def loss(nets: Nets, batch: Batch, draw: Draw) -> Logged:
        nonlocal calls
        calls += 1
        value, logged = first.loss(nets, batch, draw)
        if calls < at:
            return value, logged
        match fault:
            case "raises":
                raise ValueError("a fault,\nmade on purpose")
            case "starves":
                torch.empty(2**50)
            case "sleeps":
                marker = os.environ.get("FAULTS_MARKER")
                if marker is None or not Path(marker).exists():
                    time.sleep(0.1)
            case "hangs":
                Path(os.environ["FAULTS_MARKER"]).touch()
                time.sleep(1000)
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "dies once":
                once = Path(os.environ["FAULTS_MARKER"])
                if not once.exists():
                    once.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            case "nan":
                value = value * float("nan")
            case "explodes":
                value = value * 1e12
        return value, {**logged, "d_loss": value.detach()}

    def generate(nets: Nets, batch: Batch, draw: Draw) -> Tensor:
        images = gan.generate(nets, batch, draw)
        return images * {"collapses": 0, "nan images": float("nan")}.get(fault, 1)

    return replace(gan, updates=(Update("disc", loss), *others), generate=generate)
