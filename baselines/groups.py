"""Hyperparameters that several models share, declared once.

A group is a frozen dataclass. Each field is a hyperparameter with an annotation and a default. A factory
takes groups as keywords, and may give them other defaults::

    @card(paper="...", year=2017)
    @grouped
    def wgan(data: DataSpec, *, clip: float = 0.01, training: Training = Training(lr=5e-5)) -> Gan: ...

Commands, searches and records see a flat list of hyperparameters: ``clip``, then the fields of ``Training``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from functools import wraps
from inspect import Parameter, signature
from typing import Any, get_type_hints

from baselines.gan import Gan


def grouped(factory: Callable[..., Gan]) -> Callable[..., Gan]:
    """The factory with the fields of its groups as keywords.

    Whole groups can still be given. If a group and one of its fields are given, the field wins. A field with
    ``init=False`` is fixed: it is not a hyperparameter.
    """
    hints = get_type_hints(factory, include_extras=True)
    groups: dict[str, Any] = {}
    flat: list[Parameter] = []
    for parameter in signature(factory).parameters.values():
        if is_dataclass(parameter.default):
            groups[parameter.name] = parameter.default
            flat += _parameters(parameter.default)
        else:
            flat.append(parameter.replace(annotation=hints[parameter.name]))

    @wraps(factory)
    def make(*args: Any, **given: Any) -> Gan:
        for name, default in groups.items():
            changes = {p.name: given.pop(p.name) for p in _parameters(default) if p.name in given}
            given[name] = replace(given.get(name, default), **changes)
        return factory(*args, **given)

    make.__signature__ = signature(factory).replace(parameters=flat)  # type: ignore[attr-defined]
    make.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return make


def _parameters(group: Any) -> Iterator[Parameter]:
    """The fields of a group as keywords. Their defaults are the group's values."""
    hints = get_type_hints(type(group), include_extras=True)
    for field in fields(group):
        if field.init:
            value = getattr(group, field.name)
            yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=value, annotation=hints[field.name])
