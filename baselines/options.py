"""Options of training that every model has, whatever its factory declares.

They are fields of :class:`~baselines.gan.Gan`, and the trainer carries them out. ``registry.get`` adds them
to the hyperparameters of each factory. A factory that declares one of these names itself keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any

from baselines.checks import fraction
from baselines.gan import Decay, Gan, Unsearched

OPTIONS = (
    Parameter("ema", Parameter.KEYWORD_ONLY, default=0.0, annotation=float),
    Parameter("decay", Parameter.KEYWORD_ONLY, default="none", annotation=Annotated[Decay, Unsearched()]),
)
"""Each is off by default, and is searched only if the user gives values."""


def with_options(factory: Callable[..., Gan]) -> Callable[..., Gan]:
    """The factory with the options as further hyperparameters.

    Raises:
        ValueError: when it is called, for an option that is out of range.
    """
    declared = signature(factory).parameters
    added = {option.name: option for option in OPTIONS if option.name not in declared}

    @wraps(factory)
    def make(*args: Any, **given: Any) -> Gan:
        options = {name: given.pop(name) for name in added if name in given}
        fraction(ema=options.get("ema", 0.0))
        gan = factory(*args, **given)
        on = {name: value for name, value in options.items() if value != added[name].default}
        return replace(gan, **on) if on else gan

    # Keywords of any name, **names, must come last.
    fixed = [p for p in declared.values() if p.kind is not Parameter.VAR_KEYWORD]
    rest = [p for p in declared.values() if p.kind is Parameter.VAR_KEYWORD]
    make.__signature__ = signature(factory).replace(  # type: ignore[attr-defined]
        parameters=[*fixed, *added.values(), *rest]
    )
    make.__annotations__ = {
        **getattr(factory, "__annotations__", {}),
        **{name: option.annotation for name, option in added.items()},
    }
    return make
