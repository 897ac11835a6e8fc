"""Where in a model's own code something happens: the file and the line that a message names.

A traceback ends inside PyTorch or the harness, which the author of a model did not write. The line to name
is the innermost one of neither. Models of this package are named only where no other code is on the way.
"""

from __future__ import annotations

import inspect
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from traceback import FrameSummary
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

HERE = Path(__file__).parent
HARNESS = (
    *(HERE / name for name in ("blame.py", "conformance.py", "groups.py", "probe.py", "stackable.py")),
    HERE / "training",
    HERE.parent / "bench",
    Path(torch.__file__).parent,
)
LIBRARY = Path(sysconfig.get_path("stdlib"))
"""Python's own. Packages are installed in a folder of it, ``site-packages``, or elsewhere."""


def line(frames: Iterable[FrameSummary]) -> str:
    """``mine.py, line 12``: the innermost of these frames that is a model's; empty if none is."""
    mine = [frame for frame in frames if _is_of_a_model(Path(frame.filename))]
    outside = [frame for frame in mine if HERE not in Path(frame.filename).parents]
    found = (outside or mine)[-1:]
    return f"{shown(found[0].filename)}, line {found[0].lineno}" if found else ""


def of_error(error: BaseException) -> str:
    """`` (mine.py, line 12)``: where an error was raised; empty if no line of a model is on its way."""
    found = line(traceback.extract_tb(error.__traceback__))
    return f" ({found})" if found else ""


def of_loss(loss: Callable[..., Any]) -> str:
    """``loss d_real, mine.py, line 12``: where a loss is defined; without a place if it is no function."""
    while isinstance(loss, partial):
        loss = loss.func
    loss = inspect.unwrap(loss)
    code = getattr(loss, "__code__", None)
    name = getattr(loss, "__name__", type(loss).__name__)
    return f"loss {name}, {shown(code.co_filename)}, line {code.co_firstlineno}" if code else f"loss {name}"


def shown(file: str) -> str:
    """A path as a message names it: of an installed package from the package on, else relative to the working
    folder, if it lies there."""
    path = Path(file)
    if "site-packages" in path.parts:
        return str(Path(*path.parts[path.parts.index("site-packages") + 1 :]))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _is_of_a_model(path: Path) -> bool:
    if any(path == part or part in path.parents for part in HARNESS) or not path.is_absolute():
        return False  # Python's frozen modules have no path
    return LIBRARY not in path.parents or "site-packages" in path.parts


DECLARE = (
    "all seeds share it, and a resumed run would draw other numbers; declare the noise in Gan.noise, and for "
    "dropout use baselines.layers.Dropout"
)
"""What to do about a draw from a global generator, and why."""


class GlobalDraws(TorchFunctionMode):
    """While it is active, notes the first call of PyTorch that draws from the global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ""
        """``torch.rand in mine.py, line 12``; empty if there was none."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self.first:
            return func(*args, **(kwargs or {}))
        before = torch.get_rng_state()
        result = func(*args, **(kwargs or {}))
        if not torch.equal(torch.get_rng_state(), before):
            place = line(traceback.extract_stack())
            self.first = f"{getattr(func, '__name__', func)}{f' in {place}' if place else ''}"
        return result
