"""A run's history as two small charts for the page: losses, and accuracies, against step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.figures.curves import ACCURACIES, LOSSES

WIDTH, HEIGHT = 300, 100
"""Of a chart, in its own units."""


@dataclass(frozen=True)
class Chart:
    """One chart: its ``lines`` by name, as points of an SVG, and the range that its height stands for."""

    lines: Mapping[str, str]
    low: str
    high: str
    last: str
    """The step at its right end."""


def charts(history: pd.DataFrame, end: float) -> list[Chart]:
    """The charts of one seed's rows of :func:`reports.figures.curves.histories`, up to the step ``end``.

    A critic has no accuracy, so it has one chart.
    """
    losses = _chart(history, end, LOSSES, None)
    return [chart for chart in (losses, _chart(history, end, ACCURACIES, (0.0, 1.0))) if chart is not None]


def _chart(
    history: pd.DataFrame,
    end: float,
    names: Mapping[str, tuple[str, int]],
    limits: tuple[float, float] | None,
) -> Chart | None:
    held = {label: history[["step", name]].dropna() for name, (label, _) in names.items() if name in history}
    held = {label: part for label, part in held.items() if len(part)}
    if not held or end <= 0:
        return None
    values = np.concatenate([part.iloc[:, 1] for part in held.values()])
    low, high = limits or (float(values.min()), float(values.max()))
    span = high - low or 1.0
    lines = {
        label: " ".join(
            f"{WIDTH * step / end:.1f},{HEIGHT * (high - value) / span:.1f}"
            for step, value in part.itertuples(index=False)
        )
        for label, part in held.items()
    }
    return Chart(lines, f"{low:.3g}", f"{high:.3g}", f"{int(end):,}")
