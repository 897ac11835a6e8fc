"""The shape of the code: imports go down the layers only, without circles; files and functions are small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("baselines", "bench", "reports")

LAYERS: tuple[tuple[str, ...], ...] = (
    ("baselines.gan",),
    ("baselines.training",),
    ("baselines",),
    ("bench.errors", "bench.version", "bench.toml", "bench.torchvision_import", "bench"),
    ("bench.store",),
    ("bench.identity",),
    ("bench.data",),
    ("bench.scoring",),
    ("bench.plan",),
    ("bench.execution",),
    ("bench.search",),
    ("bench.measuring",),
    ("reports",),
    ("commands",),
)
"""From the bottom to the top. What is not named belongs to the longest name that it begins with. Commands are
:data:`COMMANDS` and all other files directly in ``bench``."""

COMMANDS = ("reports.build", "reports.export", "reports.pack")

REPORTS_MAY = (
    *("reports", "bench.errors", "bench.version", "bench.store"),
    *("bench.scoring.scores", "bench.scoring.protocols"),
)
"""What ``reports`` imports from here: it needs neither PyTorch nor anything that computes."""

MOST_LINES = 400
MOST_OF_A_FUNCTION = 60


def modules() -> dict[str, Path]:
    """Name -> file."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


@cache
def tree(name: str) -> ast.Module:
    """A module's code; not parsed while other tests are collected."""
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imports(name: str) -> Iterator[str]:
    """The modules of ours that a module imports: at its top, in functions, and for types."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            wanted = [each if each in MODULES else node.module for each in inside]
        else:
            continue
        yield from (each for each in wanted if each in MODULES and each != name)


@cache
def imported(name: str) -> list[str]:
    """The modules of ours that a module imports, in order."""
    return sorted(set(imports(name)))


def layer(name: str) -> int:
    """How high a module lies."""
    named = {each: k for k, layer in enumerate(LAYERS) for each in layer}
    if name in COMMANDS:
        return named["commands"]
    if name not in named and name.startswith("bench.") and name.count(".") == 1 and not is_folder(name):
        return named["commands"]
    while name not in named:
        name = name.rpartition(".")[0]
    return named[name]


def is_folder(name: str) -> bool:
    """Whether a name is that of a folder of modules."""
    return MODULES[name].name == "__init__.py"


def test_imports_go_down_the_layers() -> None:
    up = [
        f"{name} imports {other}"
        for name in MODULES
        for other in imported(name)
        if layer(other) > layer(name)
    ]
    assert up == []


def test_reports_compute_nothing() -> None:
    wrong = [
        f"{name} imports {other}"
        for name in MODULES
        if name.startswith("reports") and layer(name) < layer("reports.build")
        for other in imported(name)
        if not other.startswith(REPORTS_MAY)
    ]
    assert wrong == []


def test_there_is_no_circle() -> None:
    """Of files; folders have none, as their layers have an order."""
    left = {name: set(imported(name)) for name in MODULES}
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


def test_the_interface_imports_only_torch() -> None:
    assert imported("baselines.gan") == []
    assert not [
        other
        for name in MODULES
        if name.startswith("baselines")
        for other in imported(name)
        if "baselines" not in other
    ]


@pytest.mark.parametrize("name", MODULES)
def test_files_and_functions_are_small(name: str) -> None:
    """A file that needs more has two subjects."""
    assert MODULES[name].read_text(encoding="utf-8").count("\n") <= MOST_LINES
    long = {
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree(name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MOST_OF_A_FUNCTION
    }
    assert long == set()
