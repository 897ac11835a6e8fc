"""A fingerprint of the code that makes a run's numbers: file by file, part of the run's identity.

Three parts, each a mapping of files to digests:

- ``model``: the module of the model's factory and, transitively, every module that it imports from outside
  the standard library and installed packages;
- ``training``: the trainer and what it imports;
- ``scoring``: what turns networks into scores. Rows whose scoring code differs never share a table.

A digest is taken from the syntax tree without docstrings, comments and layout: editing prose changes
nothing, editing a constant changes every run that reaches it. What it cannot see: a module imported under
a name that is computed, and files that code reads as data.

A module without source is fingerprinted by its bytecode, a compiled extension by its file.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import importlib.util
import inspect
import site
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from bench.errors import ChangedError, UsageError
from bench.store.records import digest

Digests = dict[str, str]
"""File (``baselines/vanilla.py``) -> 16 hex digits."""

TRAINING = (
    "baselines.training.trainer",
    "bench.execution.checkpoints",
    "bench.execution.environment",
    "bench.execution.recording",
    "bench.execution.training",
)
"""With every module of ``baselines`` that they import."""

SCORING = (
    "bench.scoring.arithmetic",
    "bench.scoring.classifier",
    "bench.scoring.conditional",
    "bench.scoring.criterion",
    "bench.scoring.evaluator",
    "bench.scoring.extractors",
    "bench.scoring.inception",
    "bench.scoring.metrics",
    "bench.scoring.superresolution",
)
"""With every module of ``baselines`` that they import."""

NEUTRAL = (
    "baselines.probe",
    "baselines.registry",
    "bench",
    "bench.cli",
    "bench.data",
    "bench.data.datasets",  # what it loads is identified by a hash of its content
    "bench.data.folder",
    "bench.data.torchvision_sets",
    "bench.errors",
    "bench.execution",
    "bench.execution.signals",
    "bench.fingerprint",
    "bench.plan",
    "bench.scoring",
    "bench.scoring.pictures",
    "bench.store",
    "bench.store.cache",
    "bench.store.files",
    "bench.store.records",
    "bench.version",
)
"""What training and scoring import beside, and no score depends on. A test holds the three lists complete."""


# ------------------------------------------------------------------ what a run is made by


def code_of(model: str) -> dict[str, Any]:
    """The fingerprint of the code that trains and scores a model, as it is imported in this process.

    Raises:
        LookupError: there is no such model.
        UsageError: its code cannot be read in any way.
        ChangedError: a file changed while it was being imported.
    """
    from baselines import registry

    module = registry.location(model).partition(":")[0]
    before = _model_modules(module)
    factory = registry.get(model)
    modules = _model_modules(module) or _function_modules(model, factory)
    if before and (changed := differing(_files(before), _files(modules))):
        raise ChangedError(f"{', '.join(changed)} changed while {model} was imported")
    ways = {how for _, _, how, _ in modules.values()}
    return {
        "model": _files(modules),
        "training": training_code(),
        "scoring": scoring_code(),
        "how": next((how for how in ("file", "bytecode") if how in ways), "source"),
    }


def training_code() -> Digests:
    """The trainer's code."""
    return _files(_closure(TRAINING, _is_ours))


def scoring_code() -> Digests:
    """The code behind the scores."""
    return _files(_closure(SCORING, _is_ours))


def module_code(name: str) -> str:
    """The digest of one module."""
    found = _module(name)
    assert found is not None
    return found[1]


def differing(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """The files of which two fingerprints have different versions, or only one has any."""
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


# ------------------------------------------------------------------ which modules

Module = tuple[str, str, str, tuple[str, ...]]
"""File (as it is recorded), digest, how it was read (``source``, ``bytecode``, ``file``), and its imports."""


def _model_modules(name: str) -> dict[str, Module]:
    """The modules that a model's module reaches, itself included; empty where it cannot be read."""
    top = name.partition(".")[0]
    return _closure([name], lambda each: each.partition(".")[0] == top or not _is_installed(each))


def _files(modules: Mapping[str, Module]) -> Digests:
    return {file: sha for file, sha, _, _ in sorted(modules.values())}


def _closure(roots: Iterable[str], belongs: Callable[[str], bool]) -> dict[str, Module]:
    """The modules that are imported from ``roots``, transitively, as far as they belong."""
    found: dict[str, Module] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found or (module := _module(name)) is None:
            continue
        found[name] = module
        parents = (name.rsplit(".", k)[0] for k in range(1, name.count(".") + 1))
        waiting += [each for each in (*module[3], *parents) if belongs(each)]
    return found


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "baselines" and name not in NEUTRAL


def _is_installed(name: str) -> bool:
    """Whether a module comes with Python or with an installed package."""
    top = name.partition(".")[0]
    if top == "baselines":
        return False
    if top in sys.stdlib_module_names:
        return True
    spec = _spec(top)
    where = [spec.origin, *(spec.submodule_search_locations or ())] if spec is not None else []
    return any(Path(path).is_relative_to(folder) for path in where if path for folder in _installed())


@lru_cache(maxsize=1)
def _installed() -> frozenset[Path]:
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [*map(sysconfig.get_path, kinds), *site.getsitepackages(), site.getusersitepackages()]
    return frozenset(Path(folder) for folder in folders)


def _spec(name: str) -> ModuleSpec | None:
    """Where a module is; nothing is imported to find out."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    parent = name.rpartition(".")[0]
    if not parent:
        return importlib.util.find_spec(name)
    package = _spec(parent)
    if package is None or package.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(name, package.submodule_search_locations)


# ------------------------------------------------------------------ one module

_imported: dict[str, tuple[object, Module]] = {}
"""What this process has imported, as it was read then: the file may have changed since."""


def _module(name: str) -> Module | None:
    """One module; ``None`` where there is no such module, or nothing to read of it."""
    loaded = sys.modules.get(name)
    version = getattr(loaded, "__spec__", None) or loaded  # another one after a reload
    if loaded is not None and name in _imported and _imported[name][0] is version:
        return _imported[name][1]
    module = _read(name, loaded)
    if module is not None and loaded is not None:
        _imported[name] = version, module
    return module


def _read(name: str, loaded: ModuleType | None) -> Module | None:
    spec = _spec(name)
    origin = spec.origin if spec is not None else getattr(loaded, "__file__", None)
    if origin is None or not Path(origin).is_file():
        return None
    path = Path(origin)
    is_package = spec is not None and spec.submodule_search_locations is not None
    file = f"{name.replace('.', '/')}/__init__" if is_package else name.replace(".", "/")
    file = path.stem if name == "__main__" else file
    if path.suffix == ".py":
        sha, imports = _read_source(path, path.stat().st_mtime_ns, path.stat().st_size)
        return f"{file}.py", sha, "source", tuple(_absolute(imports, name, is_package))
    if path.suffix == ".pyc" and spec is not None and spec.loader is not None:
        code: CodeType = spec.loader.get_code(name)  # type: ignore[attr-defined]
        return f"{file}.pyc", _hashed(_of_code(code)), "bytecode", tuple(_imports_of_code(code))
    with path.open("rb") as binary:
        return f"{file}{path.suffix}", hashlib.file_digest(binary, "sha256").hexdigest()[:16], "file", ()


Import = tuple[int, str, tuple[str, ...]]
"""Dots, module, names: ``from ..a import b, c`` is ``(2, "a", ("b", "c"))``."""


@lru_cache(maxsize=1024)
def _read_source(path: Path, changed_ns: int, size: int) -> tuple[str, tuple[Import, ...]]:
    """Digest and imports of a source file; read again whenever it changed."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError) as error:
        raise UsageError(f"--models: {path} cannot be read as Python: {error}") from error
    return _hashed(_canonical(tree)), tuple(_imports(tree))


def _hashed(parts: Iterable[str]) -> str:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(f"{part}\0".encode(errors="surrogatepass"))
    return sha.hexdigest()[:16]


def _canonical(tree: ast.AST) -> Iterator[str]:
    """A syntax tree as text: without prose, and the same for every version of Python."""
    waiting: list[Any] = [tree]  # not recursive: expressions can be deep
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.AST):
            yield type(node).__name__
            fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None]
            waiting.append("}")
            for name, value in reversed(fields):
                if isinstance(node, ast.JoinedStr):  # of which Python 3.12 makes empty parts
                    value = [part for part in value if not isinstance(part, ast.Constant) or part.value]
                if value != [] and name not in {"kind", "type_comment", "type_ignores"}:
                    waiting += [value, f"{name}="]
        elif isinstance(node, list):
            waiting.append("]")
            waiting += [item for item in reversed(node) if not _is_prose(item)]
        else:
            yield node if isinstance(node, str) and node in "}]" else repr(node)


def _is_prose(node: object) -> bool:
    """A string that stands alone: a docstring, or a note below a field."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _imports(tree: ast.AST) -> Iterator[Import]:
    """What a module imports, anywhere in it; but not for type checkers alone."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", tuple(alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from ((0, str(arg.value), ()) for arg in node.args[:1] if isinstance(arg, ast.Constant))
        waiting += ast.iter_child_nodes(node)


def _absolute(imports: Iterable[Import], module: str, is_package: bool) -> Iterator[str]:
    """The modules that are named; ``from a import b`` may name two, ``a`` and ``a.b``."""
    for dots, name, names in imports:
        parts = module.split(".")
        base = parts[: len(parts) - dots + is_package] if dots else []
        whole = ".".join([*base, *([name] if name else [])])
        if whole:
            yield whole
            yield from (f"{whole}.{each}" for each in names if each != "*")


# ------------------------------------------------------------------ without source


def _function_modules(model: str, factory: Callable[..., Any]) -> dict[str, Module]:
    """A function that no file defines, as in a notebook: its bytecode and that of what it uses; its imports.

    Raises:
        UsageError: it has none.
    """
    if not isinstance(factory, FunctionType):
        raise UsageError(
            f"--models: the code of {model} cannot be read, so that its runs could not be told from those of "
            "another version; write it to a .py file"
        )
    imports: list[str] = []
    sha = _hashed(_of_value(factory, factory.__module__, set(), imports))
    here = {model: (model, sha, "bytecode", tuple(imports))}
    return here | _closure(
        [name for name in imports if not _is_installed(name)], lambda n: not _is_installed(n)
    )


def _of_code(code: CodeType, doc: str | None = None) -> Iterator[str]:
    """Instructions, names and constants, with those of the functions within."""
    yield code.co_code.hex()
    yield repr((code.co_names, code.co_varnames, code.co_freevars))
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _of_code(const)
        elif const != doc or doc is None:
            yield repr(const)


def _of_value(value: Any, home: str, seen: set[int], imports: list[str]) -> Iterator[str]:
    """A function of the module ``home`` with its defaults, closure and globals; a class with its methods; a
    plain value as text. What other modules define is noted in ``imports``."""
    if id(value) in seen:
        return
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    parts: list[Any] = []
    if isinstance(value, partial):
        parts = [value.func, *value.args, *value.keywords.items()]
    elif isinstance(value, dict | list | tuple):
        parts = list(value.items() if isinstance(value, dict) else value)
    elif isinstance(module, str) and module != home:
        yield f"{module}.{getattr(value, '__qualname__', '')}"
        imports.append(module)
    elif isinstance(value, FunctionType):
        yield from _of_code(value.__code__, value.__doc__)
        held = inspect.getclosurevars(value).nonlocals
        used = {name: value.__globals__[name] for name in _names(value.__code__) & {*value.__globals__}}
        parts = [value.__defaults__, value.__kwdefaults__, held, dict(sorted(used.items()))]
    elif isinstance(value, type):
        parts = [*value.__bases__, {k: v for k, v in vars(value).items() if k not in {"__doc__", "__dict__"}}]
    else:
        yield repr(value)
    seen.add(id(value))
    for part in parts:
        yield from _of_value(part, home, seen, imports)


def _names(code: CodeType) -> set[str]:
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _imports_of_code(code: CodeType) -> Iterator[str]:
    """The modules that bytecode imports by their full names."""
    yield from (str(each.argval) for each in dis.get_instructions(code) if each.opname == "IMPORT_NAME")
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _imports_of_code(const)


def short(files: Mapping[str, str]) -> str:
    """One digest of many."""
    return digest(dict(files))
