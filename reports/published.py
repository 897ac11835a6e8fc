"""Figures from papers, to stand beside ours only where they were measured alike in every field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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

STEPS = {"mnist": 15_625, "fashion-mnist": 15_625, "cifar10": 78_125}
"""20 and 100 epochs of 50,000 images in batches of 64, as in their code (google/compare_gan, 2018)."""

PROTOCOL: Mapping[str, Any] = {
    "protocol.scored_on": "test",
    "protocol.n_fake": 10_000,
    "protocol.n_real": 10_000,
    "protocol.select": "lowest test FID of 100 configurations",
    "protocol.features": "Inception of 2015, grey repeated over 3 channels, bilinear resize",
    "protocol.pixels": "not rounded",
    "hyperparameters.net": "infogan",
    "hyperparameters.prior": "uniform",
    "hyperparameters.latent_dim": 64,
    "hyperparameters.batch_size": 64,
}
"""How they measured, by the names of our records (the paper's text and their code)."""

OURS = {
    "protocol.features": "Inception of 2015, grey repeated over 3 channels, bilinear resize",
    "protocol.pixels": "rounded to 8 bits",
}
"""What our records leave unsaid: torch-fidelity takes 8-bit images."""


@dataclass(frozen=True)
class Difference:
    """A field of the protocol in which a run is not what the paper did."""

    name: str
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        return f"{self.name} {self.ours} (theirs: {self.theirs})"


def figure(dataset: str, model: str) -> tuple[float, float] | None:
    """The published FID (mean, std) of a model on a data set, or None."""
    return FID.get(dataset, {}).get(model)


def compare(run: Mapping[str, Any]) -> list[Difference]:
    """In which fields a run (a row of :func:`reports.load`) differs from the published protocol.

    Empty: the published figure may stand beside it. A field that the run lacks differs.
    """
    scored = f"protocol.extractors.{EXTRACTOR}.sha256" in _present(run)
    ours = {**OURS, **_present(run)} if scored else _present(run)
    theirs = {**PROTOCOL, "steps": STEPS.get(str(run.get("dataset")), "another data set")}
    return [
        Difference(name.rpartition(".")[2], ours.get(name, "none"), value)
        for name, value in theirs.items()
        if ours.get(name) != value
    ]


def _present(run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in run.items()
        if not (value is None or (isinstance(value, float) and math.isnan(value)))
    }
