"""A record as one row of plain columns, and what is wrong with a record that cannot be one.

``read_record`` says whether a record is whole and in its own folder. Here its content is checked, while it is
still nested: every number that a report calculates with is a number. After that nothing is repaired.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.store import records
from bench.store.records import Record

NEEDED: Mapping[str, type] = {**records.NEEDED, "task": str, "steps": int}
"""Keys without which a record is of no use to a report."""

STATUSES = ("finished", "diverged", "failed")

MEASURED = (
    *("metrics.", "floor.", "floor_std.", "halves.", "halves_std."),
    *("trained.metrics.", "trained.d_accuracy.", "ema.metrics.", "ema.d_accuracy."),
    *("best.step", "best.metrics.", "best.val.", "d_accuracy.", "cost."),
)
"""Columns that hold a run's results start so."""

NUMERIC = (*MEASURED, "parameters.")
"""Columns that hold only numbers start so."""

THRESHOLD = "d_accuracy.threshold"
"""The exception: a number, or the word :data:`CALIBRATED`."""

CALIBRATED = "calibrated"
"""The threshold of a critic: chosen on held-out scores."""

SECTIONS = (
    *("hyperparameters", "parameters", "protocol", "code", "environment", "cost"),
    *("metrics", "floor", "floor_std", "halves", "halves_std", "d_accuracy", "samples", "infinity"),
    *("trained", "ema"),
)
"""Keys that hold objects, where they hold anything."""

CODE = ("code.model", "code.training", "code.scoring")
"""Columns that each hold an object: file -> digest."""

HOW = "code.how"


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots: ``metrics.classifier.fid``. An empty object has no column.

    Objects below ``code`` stay whole, since their keys are files.
    """
    row: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict) and prefix != "code.":
            row |= flat(item, f"{prefix}{key}.")
        else:
            row[prefix + key] = item
    return row


def problem(record: Record) -> str | None:
    """What makes a record useless to a report, in a few words; None where nothing does."""
    for name, kind in NEEDED.items():
        value = record.get(name)
        if type(value) is not kind or (isinstance(value, int) and abs(value) >= 2**63):
            return f"no usable {name!r}"
    if record["status"] not in STATUSES:
        return f"status {record['status']!r} is none of {', '.join(STATUSES)}"
    wrong = (_wrong(name, value) for name, value in flat(record).items() if value is not None)
    return next(filter(None, wrong), None)


def _wrong(name: str, value: Any) -> str | None:
    if name in SECTIONS:
        return f"{name} is not an object"
    if is_number(name) and not _usable(value):
        return f"{name} is not a number below 1e100"
    if name in CODE and not (isinstance(value, dict) and all(isinstance(sha, str) for sha in value.values())):
        return f"{name} is not a mapping of files to digests"
    if name == HOW and not isinstance(value, str):
        return f"{name} is not a word"
    if name.startswith("draws.") and not (isinstance(value, list) and value and all(map(_usable, value))):
        return f"{name} is not a list of numbers"
    return None


def is_number(name: str) -> bool:
    """Whether a column holds numbers only."""
    return name.startswith(NUMERIC) and name != THRESHOLD


def _usable(value: Any) -> bool:
    """Whether a report can calculate with it."""
    return isinstance(value, int | float) and abs(value) < 1e100
