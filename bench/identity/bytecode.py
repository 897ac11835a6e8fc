"""What a piece of compiled code consists of, as text: for code whose source cannot be read."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterator
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any


def of_code(code: CodeType, doc: str | None = None) -> Iterator[str]:
    """Instructions, names and constants of a code object and the functions in it, without its docstring."""
    yield code.co_code.hex()
    yield repr((code.co_names, code.co_varnames, code.co_freevars))
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from of_code(const)
        elif const != doc or doc is None:
            yield repr(const)


def of_value(value: Any, home: str, seen: set[int], imports: list[str]) -> Iterator[str]:
    """A value of the module ``home``: a function with its defaults, closure and globals; a class with its
    methods; a plain value as text. Values that are in ``seen`` are left out. Names of other modules, whose
    functions and classes the value uses, are added to ``imports``."""
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
        yield from of_code(value.__code__, value.__doc__)
        closure = inspect.getclosurevars(value).nonlocals
        used = {name: value.__globals__[name] for name in _names(value.__code__) & {*value.__globals__}}
        parts = [value.__defaults__, value.__kwdefaults__, closure, dict(sorted(used.items()))]
    elif isinstance(value, type):
        parts = [*value.__bases__, {k: v for k, v in vars(value).items() if k not in {"__doc__", "__dict__"}}]
    else:
        yield repr(value)
    seen.add(id(value))
    for part in parts:
        yield from of_value(part, home, seen, imports)


def imports_of_code(code: CodeType) -> Iterator[str]:
    """The modules that a code object, or a function in it, imports by their full names."""
    yield from (str(each.argval) for each in dis.get_instructions(code) if each.opname == "IMPORT_NAME")
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from imports_of_code(const)


def _names(code: CodeType) -> set[str]:
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*map(_names, inner))
