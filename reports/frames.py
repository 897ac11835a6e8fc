"""Long frames of runs: their histories and their evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from bench.store.files import read_bytes
from bench.store.records import Record
from bench.store.rows import flat
from reports.folder import is_file
from reports.labels import labels

RUN = ("id", "label", "model", "dataset", "seed")
"""The columns that say which run a row is of."""

MOST = 1e100
"""Larger numbers, which a diverged run may have, are left out: nothing can be drawn or computed with them."""


def history(runs: pd.DataFrame) -> pd.DataFrame:
    """Losses and accuracies along training: one row per window of iterations of each run.

    ``runs`` is what :func:`reports.load` gave, or some of its rows. The columns:

    - ``id``, ``label``, ``model``, ``dataset``, ``seed``: the run; ``label`` is its row's name in tables;
    - ``step``: the last iteration of the window, which has ``max(1, steps // 1000)`` of them;
    - ``d_loss``, ``g_loss``: means over the window, in the loss's own unit;
    - ``d_acc_real``, ``d_acc_fake``: the fraction of real and of generated images of the training batches
      that the discriminator classified correctly, 0 to 1; critics have none;
    - what else the models logged.

    NaN stands where a model does not log a column, and for numbers that are not finite. Runs without a
    readable ``history.csv`` have no rows.
    """
    parts = [
        found.assign(**run) for run, folder, _ in _runs(runs) if (found := read_history(folder)) is not None
    ]
    if not parts:
        return pd.DataFrame(columns=[*RUN, "step"])
    whole = pd.concat(parts, ignore_index=True)
    return whole[[*RUN, "step", *(name for name in whole if name not in {*RUN, "step"})]]


def read_history(folder: Path) -> pd.DataFrame | None:
    """A run's history.csv, or None where it cannot be used."""
    if not is_file(folder / "history.csv"):
        return None
    try:
        found = pd.read_csv(BytesIO(read_bytes(folder / "history.csv")), dtype=float)
    except (OSError, ValueError):
        return None
    found = found.where(found.abs() < MOST)
    return found if "step" in found and len(found) else None


def evals(runs: pd.DataFrame) -> pd.DataFrame:
    """The scores taken along training: one row per evaluation of each run.

    ``runs`` is what :func:`reports.load` gave, or some of its rows. The columns:

    - ``id``, ``label``, ``model``, ``dataset``, ``seed``: the run; ``label`` is its row's name in tables;
    - ``step``: iterations done;
    - ``scored_on``: ``test``, or ``val`` where a choice was made along the way;
    - ``train_s``: seconds on the wall of training so far, of the whole stack that the run trained in;
    - ``compute_s``: seconds of processor, or of GPU, that the run's training took so far; not in old records;
    - ``metrics.<extractor>.<score>``: as recorded, so KID is not times 1,000; ``docs/reports.md`` lists them;
    - ``d_accuracy.real``, ``.fake``, ``.balanced``: of the discriminator, on held-out images and on samples,
      0 to 1.

    NaN stands where an evaluation does not have a column. The scores of the last step are single draws here,
    as all others are.
    """
    rows = [
        run | flat(entry)
        for run, _, record in _runs(runs)
        for entry in record.get("evals") or []
        if isinstance(entry, dict)
    ]
    columns = [*RUN, "step", "scored_on", "train_s"]
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=[*columns, *(name for name in frame if name not in columns)])
    for name in map(str, frame.columns):
        if name not in {*RUN, "scored_on"}:
            values = pd.to_numeric(frame[name], errors="coerce")
            frame[name] = values.where(values.abs() < MOST)
    return frame


def _runs(runs: pd.DataFrame) -> Iterator[tuple[dict[str, Any], Path, Record]]:
    """Of each run the columns :data:`RUN`, its folder and its record."""
    names = labels(runs) if len(runs) else {}
    for row in runs[["id", "model", "dataset", "seed", "folder", "record"]].to_dict("records"):
        run = {**row, "label": names[row["id"]]}
        yield {name: run[name] for name in RUN}, Path(row["folder"]), row["record"]
