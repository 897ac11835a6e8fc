"""What a user brings: extractors, data sets and scores, by an entry point or as ``module:function``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from bench.errors import UsageError
from bench.identity import modules
from bench.store.jobs import digest

GROUPS: Mapping[str, str] = {
    "--features": "gan_bench.features",
    "--dataset": "gan_bench.datasets",
    "--scores": "gan_bench.scores",
}
"""The flag that names such a thing -> the entry-point group in which packages register theirs."""

PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
"""``module:function``."""


class Outside(NamedTuple):
    """A function from outside, and the code that it is made of."""

    function: Callable[..., Any]
    code: Mapping[str, str]
    """File -> digest: of its module and of all that it imports, but for installed packages."""

    @property
    def digest(self) -> str:
        """One digest of the code."""
        return digest(dict(self.code))


def names(flag: str) -> tuple[str, ...]:
    """What installed packages register."""
    return tuple(sorted({point.name for point in entry_points(group=GROUPS[flag])}))


def location(flag: str, name: str) -> str | None:
    """Where the function of a name is: ``module:function``; ``None`` where the name is not from outside."""
    if PATH.fullmatch(name):
        return name
    points = entry_points(group=GROUPS[flag])
    return next((point.value for point in points if point.name == name), None)


def find(flag: str, name: str) -> Outside:
    """The function of a name, imported.

    Raises:
        UsageError: there is none, importing it fails, or its code cannot be read.
    """
    from baselines import registry  # here, not above: it imports PyTorch, which takes seconds

    path = location(flag, name)
    if path is None:
        raise UsageError(f"{flag}: {name!r} is not module:function, and no installed package registers it")
    try:
        function = registry.load(path)
    except LookupError as error:
        raise UsageError(f"{flag}: {error.args[0]}") from error
    if not callable(function):
        raise UsageError(f"{flag}: {path!r} is not a function, but {type(function).__name__}")
    try:
        found = modules.model_modules(path.partition(":")[0]) or modules.function_modules(name, function)
    except UsageError as error:
        raise UsageError(str(error).replace("--models", flag)) from error
    return Outside(function, {module.file: module.digest for module in sorted(found.values())})
