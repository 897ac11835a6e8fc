"""What it means: statistics, tables, figures and a page, made from the run folders.

``load(path)`` gives a pandas frame with one row per run, ``summarise(frame)`` one row per configuration.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if sys.argv[:1] == ["-m"] and os.path.exists("bench.py") and not sys.flags.safe_path:  # noqa: PTH110
    here = "bench.py in the working folder hides the package 'bench' of gan-bench"
    print(f"error: {here}: rename it, or work in another folder", file=sys.stderr)
    sys.exit(2)

from bench import version as version  # bench before all others: until a command handles Ctrl-C, that ends it

if TYPE_CHECKING:
    from reports.runs import load
    from reports.summary import summarise

__all__ = ["load", "summarise"]


def __getattr__(name: str) -> Any:
    """The public functions, without importing pandas until one of them is asked for."""
    if name == "load":
        from reports.runs import load

        return load
    if name == "summarise":
        from reports.summary import summarise

        return summarise
    raise AttributeError(f"module 'reports' has no attribute {name!r}")
