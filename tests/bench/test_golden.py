"""Another version of a library, or another CPU, gives the same numbers but for rounding."""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import golden
import pytest
from packaging.requirements import Requirement

from baselines import registry
from baselines.training import settings

GOLDEN: Any = json.loads(golden.FILE.read_text())
VALUES: dict[str, dict[str, float]] = GOLDEN["values"]


def tolerance(group: str, key: str) -> dict[str, float]:
    """Of a value, for ``pytest.approx``."""
    kind = next(kind for kind in GOLDEN["tolerance"] if kind in f"{group.split()[0]} {key}".split())
    relative, absolute = GOLDEN["tolerance"][kind]
    return {"rel": relative, "abs": absolute}


def check(group: str, found: dict[str, float]) -> None:
    assert found.keys() == VALUES[group].keys()
    wrong = {
        key: (found[key], expected)
        for key, expected in VALUES[group].items()
        if found[key] != pytest.approx(expected, **tolerance(group, key))
    }
    assert not wrong, f"{group}, found and golden: {wrong}; made with {GOLDEN['made_with']}"


@pytest.mark.parametrize("name", golden.SHAPES)
def test_features_of_the_shipped_classifiers(name: str) -> None:
    with settings.isolated():
        check(f"features {name}", golden.features(name))


def test_scores() -> None:
    with settings.isolated():
        check("scores", golden.scores())


@pytest.mark.parametrize("name", golden.MODELS)
def test_first_iterations(name: str) -> None:
    with settings.isolated():
        check(f"iteration {name}", golden.iteration(name))


def test_libraries_whose_inside_is_used_are_bounded_above() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    bounds = {Requirement(line).name: Requirement(line).specifier for line in project["dependencies"]}
    for name in ("torch", "torch-fidelity", "torchvision"):
        assert any(one.operator == "<" for one in bounds[name]), name
        assert version(name) in bounds[name]


def test_every_model_has_golden_values() -> None:
    assert {f"iteration {name}" for name in registry.OURS} <= VALUES.keys()
    assert GOLDEN["tolerance"] == {kind: list(pair) for kind, pair in golden.TOLERANCE.items()}
