"""Models by name: the ones here, those of installed packages, and ``module:function``."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from baselines.gan import Card, Gan
from baselines.options import with_options

GROUP = "gan_bench.models"
"""The entry-point group in which another package registers its models."""

OURS = (
    "vanilla",
    "dcgan",
    "cgan",
    "acgan",
    "srgan",
    "mmgan",
    "nsgan",
    "lsgan",
    "wgan",
    "wgan_gp",
    "dragan",
    "hinge",
    "r3gan",
    "pacgan",
    "began",
    "vae",
    "sngan",
    "sngan_projection",
    "infogan_mi",
)


_changed: dict[str, list[str]] = {}
"""Module -> process-wide settings that its import changed."""


def names() -> tuple[str, ...]:
    """Every registered model, first the ones here."""
    outside = sorted({point.name for point in entry_points(group=GROUP)} - set(OURS))
    return (*OURS, *outside)


def get(name: str) -> Callable[..., Gan]:
    """The factory of a registered name or of ``module:function``, with the options that every model has.

    Raises:
        LookupError: there is no such model, or importing it fails. The message says why.
    """
    return with_options(plain(name))


def plain(name: str) -> Callable[..., Gan]:
    """The factory as its module has it; raises what :func:`get` does."""
    path = location(name)
    factory: Callable[..., Gan] = load(path)
    if not isinstance(getattr(factory, "card", None), Card):
        raise LookupError(f"{path!r} is not a model: decorate its factory with @baselines.gan.card(...)")
    return factory


def location(name: str) -> str:
    """Where the factory of a name is: ``module:function``.

    Raises:
        LookupError: there is no such model.
    """
    if name in OURS:
        return f"baselines.{name}:{name}"
    if ":" in name:
        return name
    for point in entry_points(group=GROUP):
        if point.name == name:
            return point.value
    raise LookupError(f"{name!r} is not a model")


def hint(name: str) -> str:
    """``"; did you mean 'x'?"`` for a name that is not a model, or nothing.

    For a file, ``softgan.py``, that is its module and a function of the same name. Upper and lower case count
    as equal.
    """
    file, _, function = name.partition(":")
    if file.endswith(".py") or (not function and Path(f"{file}.py").is_file()):
        path = Path(file.removesuffix(".py"))
        module = path.name if path.is_absolute() or ".." in path.parts else ".".join(path.parts)
        meant = f"{module}:{function or path.name}"
        return f"; did you mean {meant!r}?"
    folded = {known.casefold(): known for known in names()}
    match = get_close_matches(name.casefold(), list(folded), n=1)
    return f"; did you mean {folded[match[0]]!r}?" if match else ""


def load(path: str) -> Any:
    """What ``module:function`` names. Process-wide settings that the import changes are put back.

    Raises:
        LookupError: importing it fails. The message says why.
    """
    from baselines.training import settings  # here, not above: it imports PyTorch, which takes seconds

    module_name, _, attribute = path.partition(":")
    try:
        if module_name not in sys.modules:
            with settings.isolated() as _changed[module_name]:
                importlib.import_module(module_name)
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise LookupError(f"{path!r}: cannot import {module_name!r} ({error})") from error
    except AttributeError as error:
        if error.obj is sys.modules.get(module_name):
            raise LookupError(f"{path!r}: {module_name!r} has no {attribute!r}") from error
        raise LookupError(_failed(path, error)) from error
    except (Exception, SystemExit) as error:  # a module may raise anything
        raise LookupError(_failed(path, error)) from error


def _failed(path: str, error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{last.filename}, line {last.lineno}"
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}"
    said = str(error).split("\n")[0]
    return f"{path!r}: importing it failed in {where} ({type(error).__name__}: {said})"


def side_effects(factory: Callable[..., Gan]) -> list[str]:
    """Process-wide settings that importing the model's module changed. They were restored."""
    return _changed.get(factory.__module__, [])


def card(factory: Callable[..., Gan]) -> Card:
    """The card that :func:`baselines.gan.card` attached."""
    attached: Card = factory.card  # type: ignore[attr-defined]
    return attached
