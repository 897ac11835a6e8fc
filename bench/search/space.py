"""Where a search looks: declared by the model's factory, narrowed or replaced by ``--space``.

lr = {low = 1e-5, high = 1e-3, log = true}
batch_size = [64, 128]

[dcgan]                        # for one of several models
beta1 = {low = 0.0, high = 0.5}
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError, nearest
from bench.identity.signatures import signature

if TYPE_CHECKING:
    import optuna

    from baselines.hyperparameters import Hyperparameter

GRID_POINTS = 3
"""Of a range in a grid search: both ends and the middle."""


@dataclass(frozen=True)
class Range:
    """A number from low to high, both included."""

    low: float
    high: float
    log: bool
    """On a logarithmic scale."""
    whole: bool

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        """What the study's sampler proposes."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def at(self, u: float) -> float:
        """The value at a share ``u`` in [0, 1] of the range; whole numbers have equal shares."""
        margin = 0.5 if self.whole else 0.0
        low, high = self.low - margin, self.high + margin
        if self.log:
            value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
        else:
            value = low + u * (high - low)
        value = min(max(value, self.low), self.high)
        return round(value) if self.whole else value

    def grid(self) -> list[float]:
        """Evenly spaced values on the range's scale, both ends among them."""
        return list(dict.fromkeys(self.at(k / (GRID_POINTS - 1)) for k in range(GRID_POINTS)))

    def __str__(self) -> str:
        return f"{self.low:g}…{self.high:g}{', log' if self.log else ''}"


@dataclass(frozen=True)
class Options:
    """One of these values; those that a study cannot hold (lists of widths) as text."""

    values: tuple[Any, ...]

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        """What the study's sampler proposes."""
        return trial.suggest_categorical(name, self.values)

    def at(self, u: float) -> Any:
        """The value at a share ``u`` in [0, 1] of the options."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def grid(self) -> list[Any]:
        """All of them."""
        return list(self.values)

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


Space = Mapping[str, Range | Options]


def describe(space: Space) -> dict[str, Any]:
    """A space as plain data."""
    return {name: asdict(where) for name, where in space.items()}


def at(space: Space, point: Iterable[float]) -> dict[str, Any]:
    """The configuration at a point of the unit cube."""
    return {name: where.at(float(u)) for (name, where), u in zip(space.items(), point, strict=True)}


def grid(space: Space) -> list[dict[str, Any]]:
    """Every configuration of a grid search, in order."""
    return [dict(zip(space, values, strict=True)) for values in product(*(w.grid() for w in space.values()))]


def ends(space: Space) -> list[dict[str, Any]]:
    """Each end of each range, alone."""
    ranges = {name: where for name, where in space.items() if isinstance(where, Range)}
    return [{name: where.at(u)} for name, where in ranges.items() for u in (0, 1)]


# ------------------------------------------------------------------ from declarations and files


def spaces(
    models: Sequence[str], given: Mapping[str, Any], fixed: Mapping[str, Collection[str]]
) -> dict[str, Space]:
    """The space of each model: what its factory declares, replaced by what ``--space`` gives, less what
    ``--set`` fixes.

    Raises:
        UsageError: a name, a range or a value that cannot be.
    """
    known = {model: signature(model).hyperparameters for model in models}
    found: dict[str, Space] = {}
    for model in models:
        wanted = _wanted(model, given, known)
        for name in wanted:
            if name in fixed.get(model, ()):
                raise UsageError(f"--space: {name} of {model} is fixed by --set; do one or the other")
        space = {
            name: _given(parameter, wanted[name]) if name in wanted else _declared(parameter)
            for name, parameter in known[model].items()
            if name in wanted or (parameter.search is not None and name not in fixed.get(model, ()))
        }
        if not space:
            raise UsageError(f"--model: {model} leaves nothing to search; give ranges in a --space file")
        found[model] = space
    return found


def _wanted(
    model: str, given: Mapping[str, Any], known: Mapping[str, Mapping[str, Hyperparameter]]
) -> dict[str, Any]:
    """What a file says of one model: keys for every model that has them, and the model's own table."""
    everyone = {name for parameters in known.values() for name in parameters}
    wanted: dict[str, Any] = {}
    for key, value in given.items():
        if key in known and isinstance(value, Mapping):
            if key == model:
                for name in value:
                    if name not in known[model]:
                        raise UsageError(_unknown(name, model, known[model]))
                wanted.update(value)
        elif key not in everyone:
            raise UsageError(_unknown(key, " and ".join(known), everyone))
        elif key in known[model]:
            wanted.setdefault(key, value)
    return wanted


def _unknown(name: str, owner: str, options: Collection[str]) -> str:
    listed = ", ".join(sorted(options))
    return f"--space: {name!r} is not a hyperparameter; {owner} has {listed}{nearest(name, options)}"


def _declared(parameter: Hyperparameter) -> Range | Options:
    from baselines.gan import Choice, Log

    where = parameter.search
    assert where is not None
    if isinstance(where, Choice):
        return Options(tuple(_storable(value) for value in where.values))
    return Range(where.low, where.high, log=isinstance(where, Log), whole=_is_whole(parameter))


def _given(parameter: Hyperparameter, asked: Any) -> Range | Options:
    """One entry of a ``--space`` file, checked."""
    name = parameter.name
    if isinstance(asked, list):
        asked = {"values": asked}
    if not isinstance(asked, Mapping):
        raise UsageError(f"--space: {name} = {asked!r}; write {{low = …, high = …}} or a list of values")
    for key in asked:
        if key not in ("low", "high", "log", "values"):
            keys = ("low", "high", "log", "values")
            raise UsageError(f"--space: {name} has no {key!r}; {', '.join(keys)}{nearest(key, keys)}")
    if "values" in asked:
        values = asked["values"]
        if len(asked) > 1 or not isinstance(values, list) or not values:
            raise UsageError(f"--space: {name}: values is a list with something in it, and stands alone")
        parsed = tuple(_storable(_parse(parameter, value)) for value in values)
        if len(set(parsed)) < len(parsed):
            raise UsageError(f"--space: {name}: a value is there twice in {list(parsed)}")
        return Options(parsed)
    return _range(parameter, asked)


def _range(parameter: Hyperparameter, asked: Mapping[str, Any]) -> Range:
    from baselines.gan import Log

    name = parameter.name
    if not ("low" in asked and "high" in asked):
        raise UsageError(f"--space: {name} needs both low and high")
    low, high = (_parse(parameter, asked[end]) for end in ("low", "high"))
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high)):
        raise UsageError(f"--space: {name} is not a number: write a list of values")
    log = asked.get("log", isinstance(parameter.search, Log))
    if not isinstance(log, bool):
        raise UsageError(f"--space: {name}: log = {log!r}; true or false")
    if not low < high:
        raise UsageError(f"--space: {name}: low = {low:g} is not below high = {high:g}")
    if log and low <= 0:
        raise UsageError(f"--space: {name}: low = {low:g} has no logarithm; above 0, or log = false")
    return Range(low, high, log=log, whole=_is_whole(parameter))


def _parse(parameter: Hyperparameter, value: Any) -> Any:
    try:
        return parameter.parse(value)
    except ValueError as error:
        raise UsageError(f"--space: {parameter.name}: {value!r} is not allowed; {error}") from error


def _is_whole(parameter: Hyperparameter) -> bool:
    try:
        parameter.parse(0.5)
    except ValueError:
        return True
    return False


def _storable(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value
