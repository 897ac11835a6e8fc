"""What it means: statistics, tables, figures and a page, made from the run folders.

``load(path)`` gives a pandas frame with one row per run, ``summarise(frame)`` one row per configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
