"""Which modules a module imports, and a digest of the code of each. Nothing is imported to find out.

A digest is taken from the syntax tree without docstrings, comments and layout, so that it is the same for
every version of Python. A module without source is read as bytecode, a compiled extension as a file.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from bench.errors import UsageError
from bench.identity.bytecode import imports_of_code, of_code, of_value


class Module(NamedTuple):
    """The code of one module."""

    file: str
    """As it is recorded: ``baselines/vanilla.py``."""
    digest: str
    """16 hex digits."""
    how: str
    """How it was read: ``source``, ``bytecode`` or ``file``."""
    imports: tuple[str, ...]
    """The names that it imports: of modules, and of what may be modules."""


# ------------------------------------------------------------------ several modules


def model_modules(name: str) -> dict[str, Module]:
    """The module of a model and all that it imports, transitively, but for those of installed packages.

    Without a file to read, as in a notebook, the result is empty.
    """
    top = name.partition(".")[0]
    return closure([name], lambda each: each.partition(".")[0] == top or not is_installed(each))


def closure(roots: Iterable[str], belongs: Callable[[str], bool]) -> dict[str, Module]:
    """``roots`` and what they import, transitively. Modules whose names do not ``belong`` are left out."""
    found: dict[str, Module] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found or (module := read_module(name)) is None:
            continue
        found[name] = module
        parents = (name.rsplit(".", k)[0] for k in range(1, name.count(".") + 1))
        waiting += [each for each in (*module.imports, *parents) if belongs(each)]
    return found


def function_modules(model: str, factory: Callable[..., Any]) -> dict[str, Module]:
    """The modules of a factory that no file defines, as in a notebook, by its bytecode and that of what it
    uses.

    Raises:
        UsageError: it has no bytecode.
    """
    if not isinstance(factory, FunctionType):
        raise UsageError(
            f"--models: the code of {model} cannot be read, so runs of different versions of it could not be "
            "told apart; write it to a .py file"
        )
    imports: list[str] = []
    sha = hashed(of_value(factory, factory.__module__, set(), imports))
    here = {model: Module(model, sha, "bytecode", tuple(imports))}
    return here | closure([name for name in imports if not is_installed(name)], lambda n: not is_installed(n))


def is_installed(name: str) -> bool:
    """Whether a module comes with Python or with an installed package. Ours never count as installed."""
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
    """Where a module is. It is not imported."""
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
"""The modules that this process has imported, as they were read then. Their files may have changed since."""


def read_module(name: str) -> Module | None:
    """One module; ``None`` where there is none, or it has no file."""
    loaded = sys.modules.get(name)
    version = getattr(loaded, "__spec__", None) or loaded  # a reload makes a new one
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
        return Module(f"{file}.py", sha, "source", tuple(_absolute(imports, name, is_package)))
    if path.suffix == ".pyc" and spec is not None and spec.loader is not None:
        code: CodeType = spec.loader.get_code(name)  # type: ignore[attr-defined]
        return Module(f"{file}.pyc", hashed(of_code(code)), "bytecode", tuple(imports_of_code(code)))
    with path.open("rb") as binary:
        sha = hashlib.file_digest(binary, "sha256").hexdigest()[:16]
    return Module(f"{file}{path.suffix}", sha, "file", ())


Import = tuple[int, str, tuple[str, ...]]
"""Dots, module, names: ``from ..a import b, c`` is ``(2, "a", ("b", "c"))``."""


@lru_cache(maxsize=1024)
def _read_source(path: Path, changed_ns: int, size: int) -> tuple[str, tuple[Import, ...]]:
    """Digest and imports of a source file. It is read again when its time or size has changed."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError) as error:
        raise UsageError(f"--models: {path} cannot be read as Python: {error}") from error
    return hashed(canonical(tree)), tuple(_imports(tree))


def hashed(parts: Iterable[str]) -> str:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(f"{part}\0".encode(errors="surrogatepass"))
    return sha.hexdigest()[:16]


def canonical(tree: ast.AST) -> Iterator[str]:
    """A syntax tree as text, without prose. It is the same for every version of Python."""
    waiting: list[Any] = [tree]  # a stack, not recursion: expressions can be deep
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.AST):
            yield type(node).__name__
            fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None]
            waiting.append("}")
            for name, value in reversed(fields):
                if isinstance(node, ast.JoinedStr):  # Python 3.12 adds empty parts to these
                    value = [part for part in value if not isinstance(part, ast.Constant) or part.value]
                if value != [] and name not in {"kind", "type_comment", "type_ignores"}:
                    waiting += [value, f"{name}="]
        elif isinstance(node, list):
            waiting.append("]")
            waiting += [item for item in reversed(node) if not _is_prose(item)]
        else:
            yield node if isinstance(node, str) and node in "}]" else repr(node)


def _is_prose(node: object) -> bool:
    """Whether this is a string that stands alone: a docstring, or a note below a field."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _imports(tree: ast.AST) -> Iterator[Import]:
    """What a module imports, anywhere in it, but for imports that only type checkers see."""
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
    """The full names of imports. ``from a import b`` may name two modules, ``a`` and ``a.b``."""
    for dots, name, names in imports:
        parts = module.split(".")
        base = parts[: len(parts) - dots + is_package] if dots else []
        whole = ".".join([*base, *([name] if name else [])])
        if whole:
            yield whole
            yield from (f"{whole}.{each}" for each in names if each != "*")
