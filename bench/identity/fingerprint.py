"""A fingerprint of the code that computes a run's numbers. It is part of the run's identity.

It has three parts, each a mapping of files to digests:

- ``model``: the module of the model's factory and all modules that it imports, transitively, but for those
  of the standard library and of installed packages;
- ``training``: the trainer and what it imports;
- ``scoring``: what turns networks into scores. Rows with different scoring code never share a table.

A digest ignores docstrings, comments and layout (:mod:`bench.identity.modules`). So an edit of prose changes
nothing, and an edit of a constant changes every run that uses it. Two things are not seen: modules that are
imported under a computed name, and files that code reads as data.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from bench.errors import ChangedError
from bench.identity import modules
from bench.identity.modules import Module
from bench.store.jobs import digest

Digests = dict[str, str]
"""File (``baselines/vanilla.py``) -> 16 hex digits."""

TRAINING = (
    "baselines.options",
    "baselines.training.trainer",
    "bench.execution.checkpoints",
    "bench.execution.environment",
    "bench.execution.kept",
    "bench.execution.recording",
    "bench.execution.training",
)
"""These modules, and every module of ``baselines`` that they import."""

SCORING = (
    "bench.scoring.determinism",
    "bench.scoring.dinov2",
    "bench.scoring.classifier",
    "bench.scoring.conditional",
    "bench.scoring.criterion",
    "bench.scoring.evaluator",
    "bench.scoring.drawn",
    "bench.scoring.extractors",
    "bench.scoring.features",
    "bench.scoring.fidelity",
    "bench.scoring.fitting",
    "bench.scoring.generic",
    "bench.scoring.inception",
    "bench.scoring.infinity",
    "bench.scoring.kept",
    "bench.scoring.memorisation",
    "bench.scoring.metrics",
    "bench.scoring.neighbours",
    "bench.scoring.own_features",
    "bench.scoring.own_scores",
    "bench.scoring.per_channel",
    "bench.scoring.points",
    "bench.scoring.pretrained",
    "bench.scoring.references",
    "bench.scoring.sizes",
    "bench.scoring.superresolution",
)
"""These modules, and every module of ``baselines`` that they import."""

NEUTRAL = (
    "baselines.blame",
    "baselines.probe",
    "baselines.registry",
    "bench",
    "bench.data",
    "bench.data.array_set",
    "bench.data.arrays",
    "bench.data.datasets",  # the data has a hash of its own in the run's identity
    "bench.data.folder",
    "bench.data.own_dataset",
    "bench.data.points",
    "bench.data.resizing",
    "bench.data.stacked",
    "bench.data.torchvision_sets",
    "bench.errors",
    "bench.execution",
    "bench.execution.signals",
    "bench.identity",
    "bench.identity.bytecode",
    "bench.identity.fingerprint",
    "bench.identity.modules",
    "bench.identity.outside",
    "bench.identity.signatures",
    "bench.plan",
    "bench.scoring",
    "bench.scoring.film",
    "bench.scoring.pictures",
    "bench.scoring.scores",
    "bench.store",
    "bench.store.cache",
    "bench.store.files",
    "bench.store.jobs",
    "bench.store.records",
    "bench.store.rows",
    "bench.torchvision_import",
)
"""What training and scoring import, too, but what changes no number. A test checks that each module is
listed."""


def code_of(model: str) -> dict[str, Any]:
    """The fingerprint of the code that trains and scores a model, as this process has imported it.

    A model of this package that is not imported yet is read from its files; the worker that imports it
    compares.

    Beside the three parts it holds ``how``: the least exact way in which a file was read, ``source``,
    ``bytecode`` or ``file``.

    Raises:
        LookupError: there is no such model.
        UsageError: its code cannot be read in any way.
        ChangedError: a file changed while it was imported.
    """
    from baselines import registry

    name = registry.location(model).partition(":")[0]
    before = modules.model_modules(name)
    if model in registry.OURS and name not in sys.modules:  # as it stands in its file: nothing is imported
        return _parts(before)
    factory = registry.plain(model)
    after = modules.model_modules(name) or modules.function_modules(model, factory)
    if before and (changed := differing(_files(before), _files(after))):
        raise ChangedError(f"{', '.join(changed)} changed while {model} was imported")
    return _parts(after)


def _parts(model: Mapping[str, Module]) -> dict[str, Any]:
    ways = {module.how for module in model.values()}
    return {
        "model": _files(model),
        "training": training_code(),
        "scoring": scoring_code(),
        "how": next((how for how in ("file", "bytecode") if how in ways), "source"),
    }


def training_code() -> Digests:
    """The files that train, with their digests."""
    return _files(modules.closure(TRAINING, _is_ours))


def scoring_code() -> Digests:
    """The files that score, with their digests."""
    return _files(modules.closure(SCORING, _is_ours))


def module_code(name: str) -> str:
    """The digest of one module."""
    found = modules.read_module(name)
    assert found is not None
    return found.digest


def _files(found: Mapping[str, Module]) -> Digests:
    return {module.file: module.digest for module in sorted(found.values())}


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "baselines" and name not in NEUTRAL


def differing(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """The files that differ between two fingerprints, or that only one of them has."""
    return sorted(name for name in {*a, *b} if a.get(name) != b.get(name))


def differing_files(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The files in which the code of two runs differs."""
    parts = ("model", "training", "scoring")
    return sorted({name for part in parts for name in differing(a.get(part, {}), b.get(part, {}))})


def check(model: str, planned: Mapping[str, Any]) -> None:
    """Compare the code that this process has imported with the code that a run was planned with.

    Raises:
        ChangedError: they differ.
    """
    if changed := differing_files(planned, code_of(model)):
        raise ChangedError(f"code changed since this run was planned: {', '.join(changed)}")


def short(files: Mapping[str, str]) -> str:
    """One digest of many."""
    return digest(dict(files))
