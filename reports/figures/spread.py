"""Figures of the spread over seeds: every seed's score, precision against recall, profiles.

A function gives None where the records hold nothing to draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.scoring.scores import PRECISION, RECALL, Score
from reports import stats
from reports.figures import canvas
from reports.figures.styles import Style
from reports.groups import TRAINING, Group
from reports.tables.text import ARROWS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


TITLE = 0.2
"""Inches for a line of title."""


def strip(group: Group, extractor: str, styles: Mapping[str, Style]) -> Figure | None:
    """Every seed's score as a dot, with the mean and its 95 % interval; references as lines."""
    known = group.scores(extractor)
    if not known:
        return None
    sizes = _rows_of(len(known))
    names = [styles[run_id].label for run_id in group.summary["id"]]
    pitch = min(0.22, ((canvas.TALLEST - TITLE) / len(sizes) - 0.75) / len(names))
    whose = f" ({extractor})" if len(group.extractors) > 1 else ""
    with canvas.style():
        figure, rows = canvas.rows(
            canvas.PAGE if len(known) > 1 else canvas.COLUMN,
            TITLE + len(sizes) * (0.75 + pitch * len(names)),
            sizes,
        )
        panels = ((ax, ax is row[0]) for row in rows for ax in row)
        for (ax, first), score in zip(panels, known, strict=True):
            _dots(ax, group, extractor, score, styles)
            ax.set_xlabel(f"{score.label} {ARROWS[score.better]}{whose}")
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.set_yticks(range(len(names)), names if first else [])
            ax.grid(axis="y", visible=False)
        canvas.title(figure, f"Scores{whose}: {group.title}")
    return figure


def _rows_of(n: int) -> list[int]:
    """So many panels in rows of at most three: 7 -> 3, 2, 2."""
    rows = math.ceil(n / 3)
    return [n // rows + (k < n % rows) for k in range(rows)]


def _dots(ax: Axes, group: Group, extractor: str, score: Score, styles: Mapping[str, Style]) -> None:
    """A row of dots per model, with mean and interval below them; words where a model has none."""
    name = score.column(extractor)
    several = []
    for k, row in enumerate(group.summary.to_dict("records")):
        values, how = group.values(row["id"], name) * score.factor, styles[row["id"]]
        several.append(values)
        if not values.size:
            finished = row["n"] - row["failures"]
            text = "—" if finished else f"0/{row['n']} finished"
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            where = ax.get_yaxis_transform()
            ax.text(0.04, k, text, transform=where, va="center", fontsize=7, color="0.4", bbox=box)
            continue
        offsets = 0.3 * ((np.arange(values.size) * 0.618) % 1 - 0.6)  # spread, and the same every time
        ax.scatter(values, k + offsets, s=12, **how.dots)
        mean, *interval = (row[f"{name}.{kind}"] * score.factor for kind in ("mean", "ci_low", "ci_high"))
        if not math.isnan(interval[0]):
            ax.plot(interval, [k + 0.28] * 2, color="0.15", linewidth=1.2)
        ax.plot(mean, k + 0.28, "|", color="0.15", markersize=6)
    known = np.concatenate(several)
    wide = canvas.wide(known, score)
    for line in group.references(extractor, score).values():
        if line > 0 or not wide:  # KID of real images may be below zero
            ax.axvline(line, color="0.3", linewidth=0.9, linestyle=(0, (3, 2)), zorder=0.8)
    if wide:
        ax.set_xscale("log")
        canvas.plain_decades(ax.xaxis)
    elif (known == known.round()).all():
        ax.locator_params(axis="x", nbins=4, integer=True, min_n_ticks=1)
    else:
        ax.locator_params(axis="x", nbins=4)


def precision_recall(group: Group, extractor: str, styles: Mapping[str, Style]) -> Figure | None:
    """Precision against recall, a mark per seed: fidelity up, diversity to the right."""
    names = [score.column(extractor) for score in (RECALL, PRECISION)]
    if not set(names) <= set(group.runs):
        return None
    with canvas.style():
        figure, [[ax]] = canvas.figure(canvas.COLUMN, 2.9)
        for run_id in group.summary["id"]:
            how, part = styles[run_id], group.of(run_id)[names].dropna()
            if part.empty:
                continue
            ax.scatter(part[names[0]], part[names[1]], s=16, label=how.label, **how.dots)
        x, y = (group.references(extractor, score).get(TRAINING) for score in (RECALL, PRECISION))
        if x is not None and y is not None:
            ax.scatter([x], [y], s=40, marker="+", color="0.1", label=TRAINING)
        ax.set(
            xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="recall (diversity)", ylabel="precision (fidelity)"
        )
        canvas.legend(figure, [ax])
    return figure


def profiles(group: Group, extractor: str, score: Score, styles: Mapping[str, Style]) -> Figure | None:
    """Fraction of a model's runs with a score at least as good as a threshold; failed runs never are."""
    name = score.column(extractor)
    values = group.runs[name].to_numpy(dtype=float) * score.factor
    known = values[np.isfinite(values)]
    if known.size < 2 or len(group.summary) < 2 or group.runs.groupby("id").size().max() < 2:
        return None
    wide = canvas.wide(known, score)
    thresholds = _thresholds(known, wide)
    with canvas.style():
        figure, [[ax]] = canvas.figure(canvas.COLUMN, 2.5)
        for run_id in group.summary["id"]:
            how, mine = styles[run_id], group.of(run_id)[name].to_numpy(dtype=float) * score.factor
            fraction = stats.profile(mine, thresholds, better=score.better or "higher")
            ax.step(thresholds, fraction, where="post", **how.curve)
        sign = "≤" if score.better == "lower" else "≥"
        ax.set(
            xlabel=f"threshold τ on {score.label} ({extractor})",
            ylabel=f"fraction of runs with {score.label} {sign} τ",
            ylim=(-0.03, 1.03),
        )
        if wide:
            ax.set_xscale("log")
            canvas.plain_decades(ax.xaxis)
        canvas.legend(figure, [ax])
    return figure


def _thresholds(known: NDArray[np.float64], wide: bool) -> NDArray[np.float64]:
    """From a little below the lowest score to a little above the highest; never from above 0 to below."""
    low, high = float(known.min()), float(known.max())
    if wide:
        return np.geomspace(low / 1.1, high * 1.1, 400)
    margin = 0.05 * max(high - low, 1e-9)
    return np.linspace(max(low - margin, 0.0) if low >= 0 else low - margin, high + margin, 400)
