"""Figures for a paper: readable in grey, at column width, and by colour-blind readers.

Each function draws one :class:`matplotlib.figure.Figure` from a group, or gives None where the
records hold nothing to draw. What each model looks like is in ``looks.py``.
Figures never touch pyplot's global state; :func:`save` writes them.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.store.files import read_bytes, reading, write_atomic
from reports import stats
from reports.folder import is_file
from reports.searches import Search
from reports.styles import LINES, Look, named
from reports.summary import Group, Score
from reports.text import ARROWS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLUMN = 3.3
"""Inches: one column of a two-column paper."""
PAGE = 6.9
"""Inches: both columns."""
DOTS_PER_INCH = 200
POINTS = 100
"""A curve is averaged over so many windows of steps, to show its trend through the noise."""

MOST = 1e100
"""Larger numbers cannot be drawn."""

MOST_PIXELS = 2**24
"""Larger pictures are not sample grids of this harness, and are left out."""

TALLEST = 9.0
"""Inches: what a page holds above its caption."""
MOST_ROWS = 6
"""Models below one another; of more, two share a row."""
MOST_BANDS = 6
"""Curves in a panel that have their range drawn; of more, the ranges would hide the curves."""
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "grid.linewidth": 0.4,
    "grid.color": "0.85",
    "axes.grid": True,
    "axes.axisbelow": True,
    "pdf.fonttype": 42,
    "text.usetex": False,
    "text.parse_math": False,
}


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures, for the time of a ``with``."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


SAVED: dict[str, dict[str, Any]] = {
    "pdf": {"metadata": {"CreationDate": None}},
    "png": {"pil_kwargs": {"compress_level": 3}},  # of figures, as small as the usual 6 and twice as fast
}


def save(figure: Figure, path: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write ``path`` with each format as its suffix; the same figure gives the same bytes."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    written = []
    with style():
        # A figure that owns its layout engine is drawn twice by each savefig.
        ConstrainedLayoutEngine().execute(figure)
        for kind in formats:
            target = path.with_name(f"{path.name}.{kind}")
            write_atomic(target, partial(figure.savefig, format=kind, **SAVED.get(kind, {})))
            written.append(target)
    return written


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[list[Axes]]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in axes]


# ---------------------------------------------------------------- training curves


def histories(group: Group) -> dict[str, pd.DataFrame]:
    """Per configuration the readable history.csv files as means over POINTS windows, in one frame.

    ``seed``, ``step`` (a window's end) and the columns of the files.
    """
    found = {}
    for run_id, runs in group.runs.groupby("id", sort=False):
        frames = [
            history.assign(seed=seed)
            for seed, folder in zip(runs["seed"], runs["folder"], strict=True)
            if (history := _history(Path(folder))) is not None
        ]
        if frames:
            whole = pd.concat(frames, ignore_index=True)
            width = max(1.0, float(runs["steps"].iloc[0]) / POINTS)
            whole["step"] = np.ceil(whole["step"] / width) * width
            found[str(run_id)] = whole.groupby(["seed", "step"], as_index=False).mean()
    return found


def _history(folder: Path) -> pd.DataFrame | None:
    """A run's history.csv, or None where it cannot be used."""
    if not is_file(folder / "history.csv"):
        return None
    try:
        history = pd.read_csv(BytesIO(read_bytes(folder / "history.csv")), dtype=float)
    except (OSError, ValueError):
        return None
    history = history.where(history.abs() < MOST)
    return history if "step" in history and len(history) else None


def curves(group: Group, look: Mapping[str, Look]) -> Figure | None:
    """Losses and discriminator accuracy against step of each model: mean and range over seeds.

    A critic has no threshold, hence no accuracy: its losses take both panels.
    """
    data = histories(group)
    shown = [run_id for run_id in group.summary["id"] if run_id in data]
    if not shown:
        return None
    across = 1 if len(shown) <= MOST_ROWS else 2
    rows = math.ceil(len(shown) / across)
    with style():
        figure, axes = _figure(PAGE, 0.4 + 1.3 * rows, rows, 2 * across)
        pairs = [(line[k], line[k + 1]) for line in axes for k in range(0, 2 * across, 2)]
        for k, ((left, right), run_id) in enumerate(zip(pairs, shown, strict=False)):
            history, end = data[run_id], float(group.of(run_id)["steps"].max())
            _bands(left, history, end, LOSSES)
            left.set_title(look[run_id].label, loc="left", fontweight="bold", y=1.0)
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
        _legend(figure, figure.axes)
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


def convergence(group: Group, extractor: str, score: Score, look: Mapping[str, Look]) -> Figure | None:
    """A score against step and against device seconds, where runs were scored along the way."""
    points = evaluations(group, extractor, score)
    if points.empty or points.groupby(["id", "seed"]).size().max() < 2:
        return None
    shown = [run_id for run_id in group.summary["id"] if run_id in set(points["id"])]
    with style():
        figure, [axes] = _figure(PAGE, 2.4, 1, 2)
        for run_id in shown:
            how, part = look[run_id], points[points["id"] == run_id]
            at = part.groupby("step").agg({"device_s": "mean", "value": ["mean", "min", "max"]})
            value = at["value"]
            for ax, x in zip(axes, (at.index, at["device_s"]["mean"]), strict=True):
                ax.plot(
                    x,
                    value["mean"],
                    color=how.color,
                    linestyle=how.line,
                    marker=how.marker,
                    markersize=3,
                    label=how.label,
                )
                if len(shown) <= MOST_BANDS:
                    ax.fill_between(x, value["min"], value["max"], color=how.color, alpha=0.15, linewidth=0)
        for ax, name in zip(axes, ("step", "device seconds of training"), strict=True):
            ax.set_xlabel(name)
            ax.set_ylabel(f"{score.label} ({extractor})")
            if _wide(points["value"].to_numpy(), score):
                ax.set_yscale("log")
                _plain_decades(ax.yaxis)
            ax.locator_params(axis="x", nbins=5)
        _legend(figure, axes)
    return figure


def _wide(values: NDArray[np.float64], score: Score) -> bool:
    """Whether scores need a logarithmic axis, and can have one: otherwise the worst would hide the rest."""
    return bool(score.better == "lower" and values.min() > 0 and values.max() > 20 * values.min())


def _plain_decades(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis: 10, 30, 100 …; mathematics is not parsed."""
    from matplotlib.ticker import LogLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 3) if high < 300 * low else (1,)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter("")


def evaluations(group: Group, extractor: str, score: Score) -> pd.DataFrame:
    """The scores taken along the way: id, seed, step, device_s, value; one row per evaluation that has it.

    ``device_s``: seconds of training so far, divided by how many seeds trained in the same stack.
    """
    rows = []
    for run in group.runs.reindex(columns=["id", "seed", "evals", "cost.stack"]).to_dict("records"):
        stack = run["cost.stack"] if run["cost.stack"] > 0 else 1.0
        for at in run["evals"] if isinstance(run["evals"], list) else []:
            try:
                value = float(at["metrics"][extractor][score.key]) * score.scale
                numbers = float(at["step"]), float(at["train_s"]) / stack, value
            except (KeyError, TypeError, ValueError, OverflowError):
                continue  # scored with another extractor, or not at all
            if max(map(abs, numbers)) < MOST:
                rows.append((run["id"], run["seed"], *numbers))
    return pd.DataFrame(rows, columns=["id", "seed", "step", "device_s", "value"])


# ---------------------------------------------------------------- scores


def strip(group: Group, extractor: str, look: Mapping[str, Look]) -> Figure | None:
    """Every seed's score as a dot, with the mean and its 95 % interval; real data, or bicubic, as a line."""
    known = group.scores(extractor)
    if not known:
        return None
    columns = min(3, len(known))
    rows = math.ceil(len(known) / columns)
    names = [look[run_id].label for run_id in group.summary["id"]]
    pitch = min(0.22, (TALLEST / rows - 0.75) / len(names))
    with style():
        figure, axes = _figure(
            PAGE if columns > 1 else COLUMN, rows * (0.75 + pitch * len(names)), rows, columns
        )
        flat = [ax for row in axes for ax in row]
        for k, (ax, score) in enumerate(zip(flat, known, strict=False)):
            _dots(ax, group, extractor, score, look)
            whose = f" ({extractor})" if len(group.extractors) > 1 else ""
            ax.set_xlabel(f"{score.label} {ARROWS[score.better]}{whose}")
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.set_yticks(range(len(names)), names if k % columns == 0 else [])
            ax.grid(axis="y", visible=False)
        for ax in flat[len(known) :]:
            ax.remove()
    return figure


def _dots(ax: Axes, group: Group, extractor: str, score: Score, look: Mapping[str, Look]) -> None:
    """A row of dots per model, with mean and interval below them; words where a model has none."""
    name = f"metrics.{extractor}.{score.key}"
    several = []
    for k, row in enumerate(group.summary.to_dict("records")):
        values, how = group.values(row["id"], name) * score.scale, look[row["id"]]
        several.append(values)
        if not values.size:
            finished = row["n"] - row["failures"]
            text = "—" if finished else f"0/{row['n']} finished"
            ax.text(
                0.04,
                k,
                text,
                transform=ax.get_yaxis_transform(),
                va="center",
                fontsize=7,
                color="0.4",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
            continue
        offsets = 0.3 * ((np.arange(values.size) * 0.618) % 1 - 0.6)  # spread, and the same every time
        ax.scatter(
            values,
            k + offsets,
            s=12,
            color=how.color,
            marker=how.marker,
            alpha=0.8,
            edgecolor="0.2",
            linewidth=0.3,
        )
        mean, *interval = (row[f"{name}.{kind}"] * score.scale for kind in ("mean", "ci_low", "ci_high"))
        if not math.isnan(interval[0]):
            ax.plot(interval, [k + 0.28] * 2, color="0.15", linewidth=1.2)
        ax.plot(mean, k + 0.28, "|", color="0.15", markersize=6)
    known = np.concatenate(several)
    wide = _wide(known, score)
    for line in reference_lines(group, extractor, score).values():
        if line > 0 or not wide:  # real data's KID may be below zero
            ax.axvline(line, color="0.3", linewidth=0.9, linestyle=(0, (3, 2)), zorder=0.8)
    if wide:
        ax.set_xscale("log")
        _plain_decades(ax.xaxis)
    elif (known == known.round()).all():
        ax.locator_params(axis="x", integer=True, min_n_ticks=1)


def reference_lines(group: Group, extractor: str, score: Score) -> dict[str, float]:
    """What a score is read against, "real data" or "bicubic" -> what it gets."""
    names = {
        "real data": f"floor.{extractor}.{score.key}.mean",
        "bicubic": f"metrics.{extractor}.{score.key}_bicubic.mean",
    }
    found = {who: float(group.summary[name].mean()) for who, name in names.items() if name in group.summary}
    return {who: value * score.scale for who, value in found.items() if not math.isnan(value)}


def precision_recall(group: Group, extractor: str, look: Mapping[str, Look]) -> Figure | None:
    """Precision against recall, a mark per seed: fidelity up, diversity to the right."""
    names = [f"metrics.{extractor}.{key}" for key in ("recall", "precision")]
    if not set(names) <= set(group.runs):
        return None
    with style():
        figure, [[ax]] = _figure(COLUMN, 2.9)
        for run_id in group.summary["id"]:
            how, part = look[run_id], group.of(run_id)[names].dropna()
            if part.empty:
                continue
            ax.scatter(
                part[names[0]],
                part[names[1]],
                s=16,
                color=how.color,
                marker=how.marker,
                label=how.label,
                alpha=0.8,
                edgecolor="0.2",
                linewidth=0.3,
            )
        floor = [f"floor.{extractor}.{key}.mean" for key in ("recall", "precision")]
        if set(floor) <= set(group.summary):
            x, y = (float(group.summary[name].mean()) for name in floor)
            ax.scatter([x], [y], s=40, marker="+", color="0.1", label="real data")
        ax.set(
            xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="recall (diversity)", ylabel="precision (fidelity)"
        )
        _legend(figure, [ax])
    return figure


def profiles(group: Group, extractor: str, score: Score, look: Mapping[str, Look]) -> Figure | None:
    """Share of a model's runs with a score at least as good as a threshold; failed runs never are."""
    name = f"metrics.{extractor}.{score.key}"
    values = group.runs[name].to_numpy(dtype=float) * score.scale
    known = values[np.isfinite(values)]
    if known.size < 2 or len(group.summary) < 2 or group.runs.groupby("id").size().max() < 2:
        return None
    wide = _wide(known, score)
    thresholds = _thresholds(known, wide)
    with style():
        figure, [[ax]] = _figure(COLUMN, 2.5)
        for run_id in group.summary["id"]:
            how, mine = look[run_id], group.of(run_id)[name].to_numpy(dtype=float) * score.scale
            share = stats.profile(mine, thresholds, better=score.better or "higher")
            ax.step(thresholds, share, color=how.color, linestyle=how.line, label=how.label, where="post")
        sign = "≤" if score.better == "lower" else "≥"
        ax.set(
            xlabel=f"threshold τ on {score.label} ({extractor})",
            ylabel=f"share of runs with {score.label} {sign} τ",
            ylim=(-0.03, 1.03),
        )
        if wide:
            ax.set_xscale("log")
            _plain_decades(ax.xaxis)
        _legend(figure, [ax])
    return figure


def _thresholds(known: NDArray[np.float64], wide: bool) -> NDArray[np.float64]:
    """From a little below the lowest score to a little above the highest; of positive scores none below 0."""
    low, high = float(known.min()), float(known.max())
    if wide:
        return np.geomspace(low / 1.1, high * 1.1, 400)
    margin = 0.05 * max(high - low, 1e-9)
    return np.linspace(max(low - margin, 0.0) if low >= 0 else low - margin, high + margin, 400)


def budget(searches: Sequence[Search], look: Mapping[str, Look]) -> Figure:
    """Expected best validation score of a search against its number of trials, with its 95 % band."""
    with style():
        figure, [[ax]] = _figure(COLUMN, 2.5)
        for name, search in named(searches).items():
            how, curve = look[name], search.curve
            x = curve["trials"]
            ax.plot(x, curve["expected"], color=how.color, linestyle=how.line, label=how.label)
            if len(searches) <= MOST_BANDS:
                ax.fill_between(x, curve["low"], curve["high"], color=how.color, alpha=0.15, linewidth=0)
        ax.set(xlabel="trials", ylabel=f"expected best validation {searches[0].objective}")
        ax.locator_params(axis="x", integer=True, min_n_ticks=1)
        _legend(figure, [ax])
    return figure


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend below all axes, for which the figure grows."""
    named = {
        label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    width, height = figure.get_size_inches()
    longest = max(map(len, named), default=0)
    columns = max(1, min(len(named), int(width / (0.5 + 0.052 * longest))))
    figure.set_size_inches(width, height + 0.17 * math.ceil(len(named) / columns))
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=columns)


# ---------------------------------------------------------------- samples


Pictures = list[tuple[str, NDArray[np.uint8]]]
"""Caption and image (H, W, 3)."""


def grids(group: Group, shown: Mapping[str, tuple[int, Pictures]], look: Mapping[str, Look]) -> Figure | None:
    """The sample grids that :func:`first_grids` found, side by side."""
    if not shown:
        return None
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    side = PAGE / max(2, columns)
    titles = {run_id: _wrapped(look[run_id].label, side) for run_id in shown}
    heads = HEADS.get(group.task, ())
    lines = 1 + any("\n" in title for title in titles.values()) + bool(heads)
    with style():
        figure, axes = _figure(side * columns, rows * (side + 0.08 + 0.14 * lines), rows, columns)
        flat = [ax for row in axes for ax in row]
        for ax in flat:
            ax.axis("off")
        for ax, (run_id, (_, [(_, image)])) in zip(flat, shown.items(), strict=False):
            ax.imshow(image)
            ax.set_title(titles[run_id], y=1.0, pad=14 if heads else None)
            for k, head in enumerate(heads):
                x = (k + 0.5) / len(heads)
                ax.text(x, 1.01, head, transform=ax.transAxes, ha="center", va="bottom", fontsize=6)
    return figure


HEADS = {"super-resolution": ("low res", "bicubic", "model", "original")}
"""Task -> the heads of its grids' columns."""


def _wrapped(name: str, width: float) -> str:
    """A title in at most two lines of so many inches."""
    return "\n".join(textwrap.wrap(name, int(width / 0.06), max_lines=2, placeholder="…"))


def filmstrip(
    group: Group, shown: Mapping[str, tuple[int, Pictures]], look: Mapping[str, Look]
) -> Figure | None:
    """The samples along training that :func:`first_frames` found; None without those of two steps."""
    strips = {run_id: frames for run_id, (_, frames) in shown.items() if len(frames) > 1}
    if not strips:
        return None
    across, most = _places(group)
    rows = math.ceil(len(strips) / across)
    columns = min(most, max(map(len, strips.values())))
    side = PAGE / across / most
    with style():
        figure, axes = _figure(side * columns * across, rows * (side + 0.3), rows, across)
        flat = [ax for row in axes for ax in row]
        for ax, (run_id, frames) in zip(flat, strips.items(), strict=False):
            wide = max(image.shape[1] for _, image in frames)
            ax.imshow(_strip([image for _, image in frames], columns, wide + GAP), interpolation="none")
            ax.set_title(look[run_id].label, loc="left")
            ax.set_yticks([])
            ax.set_xticks(
                [k * (wide + GAP) + wide / 2 for k in range(len(frames))], [step for step, _ in frames]
            )
            ax.grid(visible=False)
            ax.xaxis.tick_top()
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
        for ax in flat[len(strips) :]:
            ax.remove()
    return figure


def _places(group: Group) -> tuple[int, int]:
    """Of a group's filmstrips: how many stand in a row, and how many frames one has at most."""
    return (1, 6) if len(group.summary) <= MOST_ROWS else (2, 4)


GAP = 6
"""White pixels between the frames of a filmstrip."""


def _strip(images: Sequence[NDArray[np.uint8]], columns: int, width: int) -> NDArray[np.uint8]:
    """Images (H, W, 3) side by side in so many columns, on white."""
    strip = np.full((max(map(len, images)), columns * width, 3), 255, np.uint8)
    for k, image in enumerate(images):
        strip[: image.shape[0], k * width : k * width + image.shape[1]] = image
    return strip


def first_grids(group: Group) -> dict[str, tuple[int, Pictures]]:
    """Per configuration (id) the lowest seed with a grid of final samples, and that."""
    # Of super-resolution a few examples are enough.
    tiles = _columns(group) if group.task in HEADS else None
    return _first_seed(group, lambda folder: [("", folder / "samples.png")], 2**12, tiles)


def first_frames(group: Group) -> dict[str, tuple[int, Pictures]]:
    """Per configuration (id) the lowest seed with grids along training, and a corner of some of those."""
    across, most = _places(group)
    side = round(PAGE / across / most * DOTS_PER_INCH)
    return _first_seed(group, lambda folder: _evenly(_frames(folder), most), side, _columns(group))


def _frames(folder: Path) -> list[tuple[str, Path]]:
    """The grids that were saved along training, in order: ``samples-000100.png`` -> step 100."""
    names = [(path.stem.removeprefix("samples-"), path) for path in folder.glob("samples-*.png")]
    numbered = sorted((int(step), path) for step, path in names if step.isdecimal())
    return [(f"step {step:,}", path) for step, path in numbered]


def _evenly(frames: list[tuple[str, Path]], most: int) -> list[tuple[str, Path]]:
    """At most so many of the frames, equally far apart, up to the last."""
    every = max(1, math.ceil(len(frames) / most))
    return frames[(len(frames) - 1) % every :: every]


def _columns(group: Group) -> int:
    """How many pictures are in a row of the group's sample grids: see ``bench.scoring.pictures``."""
    classes = group.protocol.get("dataset.n_classes")
    if group.task in HEADS:
        return len(HEADS[group.task])
    return min(10, classes) if isinstance(classes, int) and classes > 0 else 10


def _first_seed(
    group: Group, find: Callable[[Path], list[tuple[str, Path]]], pixels: int, columns: int | None
) -> dict[str, tuple[int, Pictures]]:
    """Per configuration the images that ``find`` names in the folder of its lowest seed with any."""
    found: dict[str, tuple[int, Pictures]] = {}
    for run_id in group.summary["id"]:
        mine = group.of(run_id)
        for seed, folder in zip(mine["seed"], mine["folder"], strict=True):
            images = [
                (name, image)
                for name, path in find(Path(folder))
                if (image := _read(path, pixels, columns)) is not None
            ]
            if images:
                found[run_id] = int(seed), images
                break
    return found


def _read(path: Path, pixels: int, columns: int | None) -> NDArray[np.uint8] | None:
    """An image (H, W, 3) of at most so many pixels a side, or None where there is none that can be shown.

    ``columns``: of a grid of so many only the first four, and four rows.
    """
    from PIL import Image

    if not is_file(path):
        return None
    try:
        with reading(path) as file, Image.open(file) as image:
            if image.width * image.height > MOST_PIXELS:
                return None
            shown = image.convert("RGB")
            if columns:
                shown = shown.crop(_corner(*shown.size, columns))
            shown.thumbnail((pixels, pixels))
            return np.asarray(shown)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _corner(width: int, height: int, columns: int) -> tuple[int, int, int, int]:
    """The box of the first 4 × 4 pictures of a grid, two pixels apart; the whole of anything else."""
    tile, rest = divmod(width - 2, columns)
    if rest or tile < 3 or (height - 2) % tile:
        return 0, 0, width, height
    return 0, 0, min(width, 4 * tile + 2), min(height, 4 * tile + 2)
