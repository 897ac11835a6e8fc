"""A job: one run as plain data, its identity and its folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


def digest(value: Any) -> str:
    """12 hex digits of the SHA-256 of a plain value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def slug(name: str) -> str:
    """A name as one safe path component: ``folder:/data/faces`` -> ``folder-data-faces``."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:80] or "unnamed"


def run_folder(out: Path, model: str, dataset: str, run_id: str, seed: int) -> Path:
    """Where one run lives."""
    return out / "runs" / f"{slug(model)}-{slug(dataset)}-{run_id}" / f"seed-{seed}"


@dataclass(frozen=True)
class Job:
    """One run: everything that can change its numbers, as plain data."""

    model: str
    hyperparameters: Mapping[str, Any]
    dataset: str
    seed: int
    steps: int
    """Iterations: generator updates."""
    eval_every: int
    protocol: Mapping[str, Any]
    """What a figure depends on beside the model: data and its splits, extractors' weights, N, settings
    of the metrics, a hash of the scoring code. Rows of different protocols never share a table."""
    code: Mapping[str, Any]
    """The code that makes the numbers: see :mod:`bench.identity.fingerprint`."""
    source: str = ""
    """What loads the data set, where its name does not: ``folder:PATH``. No part of the identity."""

    @property
    def data(self) -> str:
        """What :func:`bench.data.datasets.load` is to be given."""
        return self.source or self.dataset

    @property
    def holdout(self) -> bool:
        """Whether a validation split is held out of train: wherever a choice is made on it."""
        return bool(self.protocol["dataset"]["n_val"])

    @property
    def run_id(self) -> str:
        """The identity of the configuration: a hash of everything above but seed and source."""
        identity = asdict(self)
        del identity["seed"], identity["source"]
        return digest(identity)

    def folder(self, out: Path) -> Path:
        """The run's folder."""
        return run_folder(out, self.model, self.dataset, self.run_id, self.seed)
