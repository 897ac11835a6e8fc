"""The figure of cost: the best score so far against seconds and against steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.scoring.scores import Score
from reports.figures import canvas
from reports.figures.curves import evaluations
from reports.figures.styles import Style
from reports.groups import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXES = {"device_s": "seconds of training, per seed (processor or GPU)", "step": "steps of a seed"}


def best_so_far(group: Group, extractor: str, score: Score, styles: Mapping[str, Style]) -> Figure | None:
    """Median over seeds of the best score so far, with the middle half of the seeds as a band.

    A run that failed counts as infinitely bad: a model has a curve where more than half of its runs have a
    score. None where runs were not scored along the way.
    """
    points = evaluations(group, extractor, score)
    if points.empty or points.groupby(["id", "seed"]).size().max() < 2:
        return None
    shown = [run_id for run_id in group.summary["id"] if run_id in set(points["id"])]
    with canvas.style():
        figure, [axes] = canvas.figure(canvas.PAGE, 2.4, 1, 2)
        for ax, (x, label) in zip(axes, AXES.items(), strict=True):
            for run_id in shown:
                mine = group.of(run_id)
                good = set(mine.loc[mine["status"] == "finished", "seed"])
                part = points[(points["id"] == run_id) & points["seed"].isin(good)]
                grid, (low, middle, high) = quartiles(part, x, score, len(mine))
                how = styles[run_id]
                ax.step(grid, middle, where="post", **how.curve)
                ax.plot(grid[-1:], middle[-1:], marker=how.marker, markersize=4, color=how.color)
                if len(shown) <= canvas.MOST_BANDS:
                    ax.fill_between(grid, low, high, step="post", color=how.color, alpha=0.15, linewidth=0)
            canvas.score_against(
                ax, label, f"best {score.label} so far ({extractor})", points["value"], score
            )
        canvas.legend(figure, axes)
    return figure


def quartiles(
    points: pd.DataFrame, x: str, score: Score, n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Grid (m,) of x, and quartile, median and quartile (3, m) of the best score so far of n runs.

    A run counts as infinitely bad before its first evaluation, and always where it has none; what is
    infinite is NaN. Quartiles are runs: of five the second and the fourth.
    """
    sign = 1.0 if score.better == "lower" else -1.0
    grid = np.unique(points[x].to_numpy(dtype=float))
    best = np.full((n, grid.size), np.inf)
    for row, (_, run) in enumerate(points.sort_values(x).groupby("seed")):
        at = np.searchsorted(run[x].to_numpy(dtype=float), grid, side="right")
        lowest = np.minimum.accumulate(sign * run["value"].to_numpy(dtype=float))
        best[row] = np.where(at > 0, lowest[np.maximum(at, 1) - 1], np.inf)
    ordered = np.sort(best, axis=0)
    first = (n - 1) // 4
    three = np.stack([ordered[first], np.median(ordered, axis=0), ordered[n - 1 - first]])
    return grid, np.where(np.isfinite(three), sign * three, np.nan)
