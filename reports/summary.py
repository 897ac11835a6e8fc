"""From one row per run to one row per configuration.

A *configuration* is everything that can change a run's numbers except the seed (the record's ``id``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bench.scoring.scores import NEAR_HALF
from bench.store.rows import MEASURED
from reports import stats
from reports.labels import labels
from reports.runs import is_numeric

STATISTICS = ("mean", "std", "median", "iqm", "ci_low", "ci_high", "n")
"""What :func:`summarise` says of each number: ``metrics.classifier.fid.mean`` and so on."""


def summarise(runs: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """One row per configuration of the runs that :func:`reports.load` gave.

    - ``label``: the model, with what sets it apart where a group has several configurations of it;
    - ``n`` runs, ``failures`` among them (diverged or failed), their ``seeds``, ``missing_seeds`` (seeds that
      another configuration of the group has), ``near_half`` (runs that met the criterion);
    - for each number of the records ``<name>.<statistic>`` over the runs that have it, see
      :data:`STATISTICS`: ``n`` is how many have it, ``ci_low`` and ``ci_high`` are the interval of the mean
      (:func:`reports.stats.mean_ci`);
    - where records hold ``draws``: ``<name>.training_std`` and ``<name>.sampling_std``, the two sources of
      the spread.
    """
    if runs.empty:
        return pd.DataFrame()
    measured = [
        name for name in map(str, runs.columns) if name.startswith(MEASURED) and is_numeric(runs[name])
    ]
    names = labels(runs)
    expected: dict[Any, set[int]] = {
        keys: set(part["seed"]) for keys, part in runs.groupby(["task", "protocol"])
    }
    rows = []
    for keys, part in runs.groupby(["protocol", "task", "dataset", "model", "id"], sort=False):
        protocol, task, dataset, model, run_id = keys
        seeds = sorted(part["seed"])
        near_half = part[NEAR_HALF.column()] if NEAR_HALF.column() in part else pd.Series(dtype=float)
        row: dict[str, Any] = {
            "protocol": protocol,
            "task": task,
            "dataset": dataset,
            "model": model,
            "id": run_id,
            "label": names[str(run_id)],
            "steps": int(part["steps"].iloc[0]),
            "parameters": _parameters(part),
            "n": len(part),
            "failures": int((part["status"] != "finished").sum()),
            "seeds": seeds,
            "missing_seeds": sorted(expected[(task, protocol)] - set(seeds)),
            "near_half": int((near_half == 1).sum()),
        }
        rows.append(row | _statistics(part[measured], confidence) | _sources(part))
    return pd.DataFrame(rows)


def _sources(part: pd.DataFrame) -> dict[str, float]:
    """Training and sampling spread of each score of which the runs have several sample draws."""
    found: dict[str, float] = {}
    for name in map(str, part.columns):
        if name.startswith("draws."):
            split = stats.variance_components([draws for draws in part[name] if draws is not None])
            score = f"metrics.{name.removeprefix('draws.')}"
            found |= {f"{score}.training_std": split.training, f"{score}.sampling_std": split.sampling}
    return found


def _statistics(part: pd.DataFrame, confidence: float) -> dict[str, float]:
    values = part.to_numpy(dtype=float, na_value=np.nan)  # (runs, numbers)
    known = np.isfinite(values)
    found: dict[str, float] = {}
    # Numbers that the same runs have are computed together.
    patterns: dict[bytes, list[int]] = {}
    for column in range(values.shape[1]):
        patterns.setdefault(known[:, column].tobytes(), []).append(column)
    for columns in patterns.values():
        rows = values[known[:, columns[0]]][:, columns].T  # (numbers, runs that have them)
        if not rows.shape[1]:
            continue
        intervals = stats.mean_cis(rows, confidence=confidence)
        for column, row, interval in zip(columns, rows, intervals, strict=True):
            name = part.columns[column]
            numbers = (
                float(row.mean()),
                stats.std(row),
                float(np.median(row)),
                stats.iqm(row),
                interval.low,
                interval.high,
                row.size,
            )
            found |= {f"{name}.{kind}": n for kind, n in zip(STATISTICS, numbers, strict=True)}
    return found


def _parameters(part: pd.DataFrame) -> float:
    """Trainable parameters over all nets; NaN where the record does not say."""
    counts = [
        name for name in part if str(name).startswith("parameters.") and str(name).endswith(".trainable")
    ]
    return float(part[counts].iloc[0].astype(float).sum(min_count=1))
