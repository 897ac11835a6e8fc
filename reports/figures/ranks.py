"""The figure of several data sets: a critical-difference diagram above scores relative to training images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from reports import aggregate
from reports.across import Across
from reports.figures import canvas
from reports.figures.styles import Style
from reports.groups import TRAINING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 20
"""Models in the diagram: more names have no room beside each other."""


def figure(found: Across, styles: Mapping[str, Style]) -> Figure | None:
    """Mean ranks with bars over those that are not told apart (Demšar 2006), above IQMs with their intervals.

    Where no result on so few data sets could be significant there are no bars, and words say so. ``styles``:
    label -> style. None for too many models.
    """
    k = len(found.standings)
    if k > MOST:
        return None
    with canvas.style():
        figure, [[above], [below]] = canvas.figure(canvas.COLUMN, 1.5 + 0.3 * k, 2, 1)
        _diagram(above, found, styles)
        _means(below, found, styles)
    return figure


def _diagram(ax: Axes, found: Across, styles: Mapping[str, Style]) -> None:
    """The better half of the models is named at the left, the other at the right, as Demšar draws them."""
    k = len(found.standings)
    ranks = [s.rank for s in found.standings]
    left = math.ceil(k / 2)
    margin = 0.75 * (k - 1)
    ax.set_xlim(1 - margin, k + margin)
    bars = aggregate.cliques(ranks, found.critical) if found.can_tell else []
    start = 0.45 + 0.3 * len(bars)
    ax.set_ylim(start + left * 0.75, -2.0)
    ax.axis("off")
    ax.plot([1, k], [0, 0], color="0.1", linewidth=0.9)
    for tick in range(1, k + 1):
        ax.plot([tick, tick], [-0.15, 0], color="0.1", linewidth=0.9)
        ax.text(tick, -0.25, str(tick), ha="center", va="bottom", fontsize=7)
    for place, standing in enumerate(found.standings):
        at_left = place < left
        row = place if at_left else k - 1 - place
        y, x = start + 0.35 + 0.75 * row, (1 - 0.12 * (k - 1) if at_left else k + 0.12 * (k - 1))
        how = styles[standing.label]
        ax.plot([standing.rank, standing.rank, x], [0, y, y], color="0.3", linewidth=0.7)
        ax.plot([standing.rank], [0], marker=how.marker, color=how.color, markersize=4, clip_on=False)
        shift = -0.03 * (k - 1) if at_left else 0.03 * (k - 1)
        ax.text(x + shift, y, how.label, ha="right" if at_left else "left", va="center", fontsize=7)
    for level, (first, last) in enumerate(bars):
        y = 0.35 + 0.3 * level
        ax.plot([ranks[first] - 0.03, ranks[last] + 0.03], [y, y], color="0.1", linewidth=2.4)
    title = f"mean rank over {len(found.settings)} data sets"
    said = (
        f"CD = {found.critical:.2f}"
        if found.can_tell
        else f"no bars: too few data sets (CD {found.critical:.2f} > {k - 1})"
    )
    ax.text((1 + k) / 2, -0.85, f"{title}\n{said}", ha="center", va="bottom", fontsize=7)


def _means(ax: Axes, found: Across, styles: Mapping[str, Style]) -> None:
    """A mark per model at its interquartile mean, and its interval; models below one another by mean rank."""
    for row, standing in enumerate(found.standings):
        how = styles[standing.label]
        if not math.isfinite(standing.iqm):
            ax.text(0.02, row, "failed", transform=ax.get_yaxis_transform(), va="center", fontsize=7)
            continue
        ends = standing.iqm_interval
        if math.isfinite(ends.low) and math.isfinite(ends.high):
            ax.plot([ends.low, ends.high], [row, row], color="0.15", linewidth=1.2)
        elif not math.isnan(ends.low):
            ax.text(standing.iqm, row - 0.2, "interval reaches failed runs", va="bottom", fontsize=6)
        ax.plot([standing.iqm], [row], marker=how.marker, color=how.color, markersize=5, linestyle="")
    ax.set_yticks(range(len(found.standings)), [styles[s.label].label for s in found.standings])
    ax.set_ylim(len(found.standings) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    score = found.settings[0].score
    against = "bicubic" if found.task == "super-resolution" else TRAINING
    unit = f"{score.short} / {score.short} of {against}" if found.relative else score.short
    ax.set_xlabel(f"IQM of {unit}")
