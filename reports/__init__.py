"""What it means: statistics, tables, figures and a page, made from the run folders.

``load(path)`` gives a pandas frame with one row per run. From it ``summarise(runs)`` makes one row per
configuration, ``history(runs)`` one per window of training, ``evals(runs)`` one per evaluation, and
:mod:`reports.plot` the figures of a report.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if sys.argv[:1] == ["-m"] and os.path.exists("bench.py") and not sys.flags.safe_path:  # noqa: PTH110
    here = "bench.py in the working folder hides the package 'bench' of gan-bench"
    print(f"error: {here}: rename it, or work in another folder", file=sys.stderr)
    sys.exit(2)

from bench import version as version  # bench before all others: until a command handles Ctrl-C, that ends it

if TYPE_CHECKING:
    from reports import plot as plot
    from reports.frames import evals, history
    from reports.runs import load
    from reports.summary import summarise

__all__ = ["evals", "history", "load", "plot", "summarise"]

PLACES = {"load": "runs", "summarise": "summary", "history": "frames", "evals": "frames"}
"""Where the public functions are."""


def __getattr__(name: str) -> Any:
    """The public functions, without importing pandas until one of them is asked for."""
    if name == "plot":
        return import_module("reports.plot")
    if name in PLACES:
        return getattr(import_module(f"reports.{PLACES[name]}"), name)
    raise AttributeError(f"module 'reports' has no attribute {name!r}")
