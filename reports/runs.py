"""Runs as a frame: one row per run, made from its record by :func:`frame` and by nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.store import results, rows
from bench.store.jobs import digest
from bench.store.records import Record


def load(roots: Path | str | Iterable[Path | str]) -> pd.DataFrame:
    """One row per run found in the results folder or folders, failed ones included.

    Columns are the record's keys joined by dots (``metrics.classifier.fid``), ``folder``, ``record`` (the
    whole record) and ``protocol``: a short hash of all ``protocol.*`` columns. What a record lacks is NaN in
    a column of numbers, and None in any other. ``attrs["skipped"]`` lists, one line each with its path, the
    records that were left out (damaged, foreign, of another schema, a second copy of a run) and the runs
    that are not finished. The frame is empty where nothing was found.
    """
    several = [Path(root) for root in ([roots] if isinstance(roots, Path | str) else roots)]
    found, skipped = results.load(several)
    runs = frame([run.record for run in found], [str(run.folder) for run in found])
    runs.attrs["skipped"] = skipped
    return runs


def frame(
    records: Sequence[Record], folders: Sequence[str], protocols: Sequence[str] | None = None
) -> pd.DataFrame:
    """The frame of these records. ``protocols``: their hashes, where the records do not hold all any more."""
    if not records:
        return pd.DataFrame(columns=[*rows.NEEDED, "folder", "record", "protocol"])
    flat = [rows.flat(record) for record in records]
    names = dict.fromkeys(name for row in flat for name in row)
    columns = {name: _column(name, [row.get(name) for row in flat]) for name in names}
    columns |= {name: pd.Series([row[name] for row in flat], dtype=int) for name in ("seed", "steps")}
    columns |= {
        "folder": pd.Series(folders, dtype=object),
        "record": pd.Series(list[Any](records), dtype=object),
    }
    return pd.DataFrame(columns).assign(protocol=protocols or [digest(_protocol(row)) for row in flat])


def _column(name: str, values: list[Any]) -> pd.Series:
    """Numbers with NaN in the gaps, where the name promises numbers; else any values, None in the gaps."""
    if not name.startswith(rows.NUMERIC) or not all(v is None or isinstance(v, int | float) for v in values):
        return pd.Series(values, dtype=object)
    numbers = np.asarray(values)
    if numbers.dtype.kind not in "bif":
        numbers = np.asarray([math.nan if value is None else float(value) for value in values])
    return pd.Series(numbers)


def _protocol(row: dict[str, Any]) -> dict[str, Any]:
    return {name: v for name, v in row.items() if name.startswith("protocol.") and v is not None}


def is_numeric(column: pd.Series) -> bool:
    """Whether a column of a frame holds numbers."""
    return bool(pd.api.types.is_numeric_dtype(column))
