"""What it means: statistics, tables, plots and a page from the run folders.

``load(path)`` gives a pandas frame with one row per run, ``summarise(frame)`` one row per configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.summary import load, summarise

__all__ = ["load", "summarise"]


def __getattr__(name: str) -> Any:
    """The public functions, without importing pandas until one of them is asked for."""
    if name in __all__:
        from reports import summary

        return getattr(summary, name)
    raise AttributeError(f"module 'reports' has no attribute {name!r}")
