"""Scores from papers. A table shows them only where they were measured as ours in every field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.scoring import scores
from bench.scoring.protocols import PROTOCOLS

LUCIC = PROTOCOLS["lucic2018"]

SOURCE = "Lucic et al. 2018, Are GANs Created Equal?, arXiv:1711.10337"

EXTRACTOR = "inception-v3-compat"

FID: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "mnist": {
        "mmgan": (9.8, 0.9),
        "nsgan": (6.8, 0.5),
        "lsgan": (7.8, 0.6),
        "wgan": (6.7, 0.4),
        "wgan_gp": (20.3, 5.0),
        "dragan": (7.6, 0.4),
    },
    "fashion-mnist": {
        "mmgan": (29.6, 1.6),
        "nsgan": (26.5, 1.6),
        "lsgan": (30.7, 2.2),
        "wgan": (21.5, 1.6),
        "wgan_gp": (24.5, 2.1),
        "dragan": (27.7, 1.2),
    },
    "cifar10": {
        "mmgan": (72.7, 3.6),
        "nsgan": (58.5, 1.9),
        "lsgan": (87.1, 47.5),  # papers that reprint the table disagree on this spread
        "wgan": (55.2, 2.3),
        "wgan_gp": (55.8, 0.9),
        "dragan": (69.8, 2.0),
    },
}
"""Data set -> our name of the model -> FID (mean, standard deviation over 50 seeds), table 2 of the paper."""

PROTOCOL: Mapping[str, Any] = {
    "protocol.scored_on": "test",
    "protocol.n_fake": 10_000,
    "protocol.n_real": 10_000,
    "protocol.select": "lowest test FID of 100 configurations",
    "protocol.features": "Inception of 2015, grey repeated over 3 channels, bilinear resize",
    "protocol.pixels": "not rounded",
}
"""How the paper scored, in the columns of our records (by its text and its code)."""

OURS = {
    "protocol.features": "Inception of 2015, grey repeated over 3 channels, bilinear resize",
    "protocol.pixels": "rounded to 8 bits",
}
"""What our records do not say: torch-fidelity takes 8-bit images."""


OFF: Mapping[str, Any] = {
    "hyperparameters.r1": 0,
    "hyperparameters.ema": 0,
    "hyperparameters.decay": "none",
    "hyperparameters.augment": "none",
    "hyperparameters.d_lr": None,
}
"""Options of ours that the paper does not have, and what they are where they are off."""


@dataclass(frozen=True)
class Difference:
    """A field of the protocol in which a run differs from the paper."""

    name: str
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        return f"{self.name} {self.ours} (theirs: {self.theirs})"


@dataclass(frozen=True)
class Figure:
    """A row of published scores."""

    name: str
    cells: Mapping[tuple[str, str], tuple[str, float]]
    """Extractor and label of a column -> text and mean, in the column's unit."""


BATCHES = Difference("batches", "drawn with replacement", "shuffled epochs")
NOISE = Difference("z of a generator update", "fresh", "that of the discriminator update before")
SLOPES = Difference("slopes", "per pixel in [-1, 1]", "per pixel in [0, 1], never below 0.01")
"""A slope of 1 in our units is one of 2 in theirs, so a penalty on it is another penalty."""

CODE: Mapping[str, tuple[Difference, ...]] = {
    "mmgan": (BATCHES, NOISE),
    "nsgan": (BATCHES, NOISE),
    "lsgan": (BATCHES, NOISE),
    "wgan": (BATCHES, NOISE),
    "wgan_gp": (BATCHES, SLOPES),
    "dragan": (BATCHES, NOISE, SLOPES),
}
"""Our name of the model -> how our code always differs from theirs (google/compare_gan, 2018)."""


def figure(dataset: str, model: str) -> tuple[float, float] | None:
    """The published FID (mean, std) of a model on a data set, or None."""
    return FID.get(dataset, {}).get(model)


def row(run: Mapping[str, Any]) -> Figure | None:
    """The published scores of a run (a row of :func:`reports.load`): of its model and data set."""
    found = figure(str(run.get("dataset")), str(run.get("model")))
    if found is None:
        return None
    mean, std = found
    cells = {(EXTRACTOR, scores.FID.label): (f"{mean} ± {std}", mean)}
    return Figure(f"{run['model']}, published", cells)


def compare(run: Mapping[str, Any]) -> list[Difference]:
    """In which fields a run (a row of :func:`reports.load`) differs from the published protocol.

    A field that the run lacks differs. What no flag can change (``CODE``) comes last.
    """
    present = {name: value for name, value in run.items() if value is not None}
    model = str(run.get("model"))
    scored = f"protocol.extractors.{EXTRACTOR}.sha256" in present
    ours = {**OURS, **present} if scored else present
    theirs = {**PROTOCOL, **{f"hyperparameters.{key}": value for key, value in LUCIC.settings(model).items()}}
    fields = [
        Difference(name.rpartition(".")[2], ours.get(name, "none"), value)
        for name, value in theirs.items()
        if ours.get(name) != value
    ]
    return [*fields, *options(present), *_training(present), *CODE.get(model, ())]


def options(run: Mapping[str, Any]) -> list[Difference]:
    """The options of ours that are on. NaN, which is not equal to itself, stands where a run has none."""
    values = {name: run.get(name, off) for name, off in OFF.items()}
    return [
        Difference(name.rpartition(".")[2], value, "none")
        for name, value in values.items()
        if value == value and value != OFF[name]
    ]


def deviations(run: Mapping[str, Any]) -> tuple[Difference, ...]:
    """What is named beside a published row; here nothing is left, since :func:`compare` has it all."""
    return ()


def _training(run: Mapping[str, Any]) -> list[Difference]:
    """The length of training, counted in discriminator updates as in the paper."""
    dataset = str(run.get("dataset"))
    n_critic = max(1, whole(run.get("hyperparameters.n_critic")))
    updates = whole(run.get("steps")) * n_critic
    if dataset in LUCIC.updates and updates == LUCIC.steps(dataset, n_critic) * n_critic:
        return []
    return [Difference("discriminator updates", updates, LUCIC.updates.get(dataset, "another data set"))]


def whole(value: Any) -> int:
    """A whole number from a column with gaps; 0 for what is none."""
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0
