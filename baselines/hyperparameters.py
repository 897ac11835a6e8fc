"""A model's hyperparameters, read from the annotated signature of its factory."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from baselines.gan import Card, Choice, Gan, Linear, Log, Unsearched

Search = Log | Linear | Choice

ON_POINTS: Mapping[str, Any] = {"latent_dim": 2, "g_widths": (128, 128), "d_widths": (128, 128)}
"""Defaults of hyperparameters of these names on points in the plane, where small networks are enough.

A model's card may have more."""


@dataclass(frozen=True)
class Hyperparameter:
    """One keyword of a factory."""

    name: str
    kind: Any
    """``int``, ``float``, ``bool``, ``str``, ``tuple[int, ...]``, a ``Literal`` or an optional of these."""
    default: Any
    search: Search | None
    """The default search range. ``None``: searched only if the user gives a range."""

    def describe(self) -> str:
        """``lr=0.0002 (1e-05…0.01, log)``."""
        match self.search:
            case Log(low, high):
                return f"{self.name}={self.default} ({low:g}…{high:g}, log)"
            case Linear(low, high):
                return f"{self.name}={self.default} ({low:g}…{high:g})"
            case Choice(values):
                return f"{self.name}={self.default} ({', '.join(map(str, values))})"
        options = f" ({', '.join(map(str, get_args(self.kind)))})" if get_origin(self.kind) is Literal else ""
        return f"{self.name}={self.default}{options}"

    def parse(self, value: Any) -> Any:
        """The value of this hyperparameter that a flag's text or a TOML value stands for.

        Raises:
            ValueError: the message says what is allowed.
        """
        return _parse(self.kind, value)


def declared(factory: Callable[..., Gan]) -> dict[str, Hyperparameter]:
    """The keyword-only parameters of a factory, by name. Before them it has one parameter, the data.

    Raises:
        TypeError: one has no annotation or no default, or its default is not of its type or range; or one is
            not keyword-only.
    """
    try:
        hints = get_type_hints(factory, include_extras=True)
    except Exception as error:  # annotations are code, and may fail in any way
        raise TypeError(f"its annotations cannot be read ({type(error).__name__}: {error})") from error
    found = {}
    for k, parameter in enumerate(inspect.signature(factory).parameters.values()):
        if k and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise TypeError(f"hyperparameter {parameter.name} is not keyword-only: put a * before it")
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if parameter.name not in hints:
            raise TypeError(f"hyperparameter {parameter.name} needs a type annotation")
        if parameter.default is inspect.Parameter.empty:
            raise TypeError(f"hyperparameter {parameter.name} has no default")
        kind, search, unsearched = hints[parameter.name], None, False
        if get_origin(kind) is Annotated:
            kind, *notes = get_args(kind)
            search = next((note for note in notes if isinstance(note, Log | Linear | Choice)), None)
            unsearched = any(isinstance(note, Unsearched) for note in notes)
        if search is None and get_origin(kind) is Literal and not unsearched:
            search = Choice(get_args(kind))
        one = Hyperparameter(parameter.name, kind, parameter.default, search)
        _check_default(one)
        found[one.name] = one
    return found


def defaults(factory: Callable[..., Gan], *, points: bool = False) -> dict[str, Any]:
    """The default of each hyperparameter, on images or on points in the plane."""
    return defaults_of(declared(factory), factory.card, points=points)  # type: ignore[attr-defined]


def defaults_of(known: Mapping[str, Hyperparameter], card: Card, *, points: bool) -> dict[str, Any]:
    """The same of hyperparameters that were read before."""
    values = {name: one.default for name, one in known.items()}
    others = {**ON_POINTS, **card.on_points} if points else {}
    return values | {name: value for name, value in others.items() if name in known}


def _check_default(one: Hyperparameter) -> None:
    try:
        readable = one.parse(one.default) == one.default
    except (KeyError, TypeError, ValueError):
        readable = False
    if not readable:
        raise TypeError(
            f"hyperparameter {one.name}: its default {one.default!r} cannot be read as {one.kind}"
        )
    if isinstance(one.search, Log | Linear) and not one.search.low <= one.default <= one.search.high:
        raise TypeError(f"hyperparameter {one.name}: its default is outside its range, {one.describe()}")


def _parse(kind: Any, value: Any) -> Any:
    options = get_args(kind)
    if get_origin(kind) is Literal:
        for option in options:
            if str(option) == str(value):
                return option
        raise ValueError(f"one of {', '.join(map(str, options))}")
    if NoneType in options:
        if value is None or str(value).lower() == "none":
            return None
        return _parse(next(option for option in options if option is not NoneType), value)
    if get_origin(kind) is tuple:
        items = value.strip("[]() ").split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not items:
            raise ValueError("numbers separated by commas, as in 256,512")
        return tuple(_parse(options[0], item) for item in items)
    return _SCALARS[kind](value)


def _bool(value: Any) -> bool:
    text = str(value).lower()
    if text not in {"true", "false"}:
        raise ValueError("true or false")
    return text == "true"


def _int(value: Any) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not number.is_integer():
        raise ValueError("a whole number")
    return int(number)


def _float(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError("a finite number")
    return number


_SCALARS: dict[Any, Callable[[Any], Any]] = {int: _int, float: _float, bool: _bool, str: str}
