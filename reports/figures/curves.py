"""Figures of curves: losses and accuracy along training, scores along training, the budget of a search.

A function gives None where the records hold nothing to draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.scoring.scores import Score
from reports.figures import canvas
from reports.figures.styles import LINES, Style, named
from reports.frames import MOST, read_history
from reports.groups import Group
from reports.searches import Search

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 100
"""A curve is averaged over so many windows of steps, to show its trend through the noise."""

Histories = Mapping[str, pd.DataFrame]
"""Configuration (id) -> its histories."""


def histories(group: Group) -> dict[str, pd.DataFrame]:
    """Per configuration the readable history.csv files as means over POINTS windows, in one frame.

    ``seed``, ``step`` (a window's end) and the columns of the files.
    """
    found = {}
    for run_id, runs in group.runs.groupby("id", sort=False):
        frames = [
            history.assign(seed=seed)
            for seed, folder in zip(runs["seed"], runs["folder"], strict=True)
            if (history := read_history(Path(folder))) is not None
        ]
        if frames:
            whole = pd.concat(frames, ignore_index=True)
            width = max(1.0, float(runs["steps"].iloc[0]) / POINTS)
            whole["step"] = np.ceil(whole["step"] / width) * width
            found[str(run_id)] = whole.groupby(["seed", "step"], as_index=False).mean()
    return found


def curves(group: Group, styles: Mapping[str, Style], data: Histories) -> Figure | None:
    """Losses and discriminator accuracy against step of each model: mean and range over seeds.

    A critic has no threshold, hence no accuracy: its losses take both panels.
    """
    shown = [run_id for run_id in group.summary["id"] if run_id in data]
    if not shown:
        return None
    across = 1 if len(shown) <= canvas.MOST_ROWS else 2
    rows = math.ceil(len(shown) / across)
    with canvas.style():
        figure, axes = canvas.figure(canvas.PAGE, 0.4 + 1.3 * rows, rows, 2 * across)
        pairs = [(line[k], line[k + 1]) for line in axes for k in range(0, 2 * across, 2)]
        for k, ((left, right), run_id) in enumerate(zip(pairs, shown, strict=False)):
            history, end = data[run_id], float(group.of(run_id)["steps"].max())
            _bands(left, history, end, LOSSES)
            left.set_title(styles[run_id].label, loc="left", fontweight="bold", y=1.0)
            left.set_ylabel("loss")
            if set(ACCURACIES) & set(history):
                _bands(right, history, end, ACCURACIES)
                right.set(ylabel="accuracy", ylim=(-0.03, 1.03))
                right.axhline(0.5, color="0.3", linewidth=0.8, linestyle=(0, (1, 1.5)))
            else:
                _widen(left, right)
            lowest = k + across >= len(shown)
            for ax in (left, right):
                ax.set_xlim(0, float(group.runs["steps"].max()))
                ax.tick_params(labelbottom=lowest)
                ax.set_xlabel("step" if lowest else "")
        for left, right in pairs[len(shown) :]:
            left.remove()
            right.remove()
        canvas.legend(figure, figure.axes)
    return figure


def _widen(ax: Axes, over: Axes) -> None:
    """Let a panel take the place of its right neighbour too."""
    mine, other = ax.get_subplotspec(), over.get_subplotspec()
    assert mine is not None
    assert other is not None
    ax.set_subplotspec(mine.get_gridspec()[mine.rowspan.start, mine.colspan.start : other.colspan.stop])
    over.remove()


LOSSES = {"d_loss": ("D loss", 0), "g_loss": ("G loss", 1)}
ACCURACIES = {"d_acc_real": ("D accuracy on real", 2), "d_acc_fake": ("D accuracy on fake", 3)}
"""Column of the history -> its label, and which colour and line it gets."""


def _bands(ax: Axes, history: pd.DataFrame, end: float, names: Mapping[str, tuple[str, int]]) -> None:
    """Mean line and min-max band over seeds of each column; a cross where a run stopped before ``end``."""
    import seaborn

    palette = seaborn.color_palette("colorblind")
    for name, (label, k) in names.items():
        if name not in history:
            continue
        over_seeds = history.groupby("step")[name].agg(["mean", "min", "max"])
        color = palette[k]
        ax.plot(over_seeds.index, over_seeds["mean"], color=color, linestyle=LINES[k], label=label)
        ax.fill_between(
            over_seeds.index, over_seeds["min"], over_seeds["max"], color=color, alpha=0.2, linewidth=0
        )
        last = history.dropna(subset=[name]).groupby("seed").tail(1)
        early = last[last["step"] < end * (1 - 1.5 / POINTS)]
        ax.plot(early["step"], early[name], "x", color=color, markersize=5)


def convergence(group: Group, extractor: str, score: Score, styles: Mapping[str, Style]) -> Figure | None:
    """A score against step and against seconds of training, where runs were scored along the way."""
    points = evaluations(group, extractor, score)
    if points.empty or points.groupby(["id", "seed"]).size().max() < 2:
        return None
    shown = [run_id for run_id in group.summary["id"] if run_id in set(points["id"])]
    with canvas.style():
        figure, [axes] = canvas.figure(canvas.PAGE, 2.4, 1, 2)
        for run_id in shown:
            how, part = styles[run_id], points[points["id"] == run_id]
            at = part.groupby("step").agg({"device_s": "mean", "value": ["mean", "min", "max"]})
            value = at["value"]
            for ax, x in zip(axes, (at.index, at["device_s"]["mean"]), strict=True):
                ax.plot(x, value["mean"], marker=how.marker, markersize=3, **how.curve)
                if len(shown) <= canvas.MOST_BANDS:
                    ax.fill_between(x, value["min"], value["max"], color=how.color, alpha=0.15, linewidth=0)
        for ax, name in zip(axes, ("step", "seconds of training (processor or GPU)"), strict=True):
            canvas.score_against(ax, name, f"{score.label} ({extractor})", points["value"], score)
        canvas.legend(figure, axes)
    return figure


def evaluations(group: Group, extractor: str, score: Score) -> pd.DataFrame:
    """The scores taken along the way: id, seed, step, device_s, value; one row per evaluation that has it.

    ``device_s``: seconds of compute in training so far; of older records, seconds on the wall, divided by
    how many seeds trained in the same stack.
    """
    rows = []
    for run in group.runs.reindex(columns=["id", "seed", "record", "cost.stack"]).to_dict("records"):
        stack = run["cost.stack"] if run["cost.stack"] > 0 else 1.0
        evals = run["record"].get("evals")
        for at in evals if isinstance(evals, list) else []:
            try:
                value = float(at["metrics"][extractor][score.name]) * score.factor
                seconds = at["compute_s"] if "compute_s" in at else float(at["train_s"]) / stack
                numbers = float(at["step"]), float(seconds), value
            except (KeyError, TypeError, ValueError, OverflowError):
                continue  # scored with another extractor, or not at all
            if max(map(abs, numbers)) < MOST:
                rows.append((run["id"], run["seed"], *numbers))
    return pd.DataFrame(rows, columns=["id", "seed", "step", "device_s", "value"])


def budget(searches: Sequence[Search], styles: Mapping[str, Style]) -> Figure:
    """Expected best validation score of a search against its number of trials, with its 95 % band."""
    with canvas.style():
        figure, [[ax]] = canvas.figure(canvas.COLUMN, 2.5)
        for name, search in named(searches).items():
            how, curve = styles[name], search.curve
            x = curve["trials"]
            ax.plot(x, curve["expected"], **how.curve)
            if len(searches) <= canvas.MOST_BANDS:
                ax.fill_between(x, curve["low"], curve["high"], color=how.color, alpha=0.15, linewidth=0)
        ax.set(xlabel="trials", ylabel=f"expected best validation {searches[0].objective}")
        ax.locator_params(axis="x", integer=True, min_n_ticks=1)
        canvas.legend(figure, [ax])
    return figure
