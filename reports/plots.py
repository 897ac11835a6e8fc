"""Figures for a paper: readable in grey, at column width, and by colour-blind readers.

Each function draws one :class:`matplotlib.figure.Figure` from a group, or gives None where the
records hold nothing to draw. Models keep their colour, line style and marker throughout a group.
Figures never touch pyplot's global state; :func:`save` writes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.store import write_atomic
from reports import stats
from reports.searches import Search
from reports.summary import Group, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.3
"""Inches: one column of a two-column paper."""
PAGE = 6.9
"""Inches: both columns."""
DOTS_PER_INCH = 200
POINTS = 100
"""A curve is averaged over so many windows of steps, to show its trend through the noise."""

MOST_PIXELS = 2**24
"""Larger pictures are not sample grids of this harness, and are left out."""

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")

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
    "svg.fonttype": "none",
    "text.usetex": False,
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Look:
    """How a configuration is drawn."""

    label: str
    color: Any
    line: Any
    marker: str


def looks(group: Group) -> dict[str, Look]:
    """A look per configuration (id): any two of colour, line and marker are one of a kind up to 18."""
    import seaborn

    palette = seaborn.color_palette("colorblind", 10)
    return {
        str(run_id): Look(_drawable(label), palette[k % 10], LINES[k % len(LINES)], MARKERS[k % len(MARKERS)])
        for k, (run_id, label) in enumerate(zip(group.summary["id"], group.summary["label"], strict=True))
    }


def _drawable(label: str) -> str:
    """A label that fits, with a box for each character that the figures' font lacks."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    text = "".join(c if c.isprintable() and font.get_char_index(ord(c)) else "□" for c in label)
    text = text if len(text) <= 36 else f"{text[:35]}…"
    return f" {text}" if text.startswith("_") else text  # legends skip a leading underscore


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures, for the time of a ``with``."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


SAVED: dict[str, dict[str, Any]] = {
    "pdf": {"metadata": {"CreationDate": None}},
    "svg": {"metadata": {"Date": None}},
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
    try:
        history = pd.read_csv(folder / "history.csv", dtype=float)
    except (OSError, ValueError):
        return None
    return history if "step" in history and len(history) else None


def curves(group: Group) -> Figure | None:
    """Losses and discriminator accuracy against step: a row per model, mean and range over seeds."""
    data = histories(group)
    shown = [(run_id, look.label) for run_id, look in looks(group).items() if run_id in data]
    if not shown:
        return None
    with style():
        figure, axes = _figure(PAGE, 0.4 + 1.3 * len(shown), len(shown), 2)
        for (left, right), (run_id, label) in zip(axes, shown, strict=True):
            history = data[run_id]
            end = float(group.of(run_id)["steps"].max())
            _bands(left, history, end, LOSSES)
            _bands(right, history, end, ACCURACIES)
            left.set_title(label, loc="left", fontweight="bold", y=1.0)
            left.set_ylabel("loss")
            right.set_ylabel("accuracy")
            right.set_ylim(-0.03, 1.03)
            right.axhline(0.5, color="0.3", linewidth=0.8, linestyle=(0, (1, 1.5)))
            if not set(ACCURACIES) & set(history):
                right.text(0.5, 0.55, "the critic has no threshold", ha="center", transform=right.transAxes)
            for ax in (left, right):
                ax.set_xlim(0, float(group.runs["steps"].max()))
                ax.tick_params(labelbottom=ax in axes[-1])
        for ax in axes[-1]:
            ax.set_xlabel("step")
        _legend(figure, [ax for row in axes for ax in row])
    return figure


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


def convergence(group: Group, extractor: str, score: Score) -> Figure | None:
    """A score against step and against device seconds, where runs were scored along the way."""
    points = evaluations(group, extractor, score)
    if points.empty or points.groupby(["id", "seed"]).size().max() < 2:
        return None
    with style():
        figure, [axes] = _figure(PAGE, 2.4, 1, 2)
        for run_id, how in looks(group).items():
            part = points[points["id"] == run_id]
            for ax, name in zip(axes, ("step", "device_s"), strict=True):
                at = part.groupby("step").agg({"device_s": "mean", "value": ["mean", "min", "max"]})
                x = at.index if name == "step" else at["device_s"]["mean"]
                ax.plot(
                    x,
                    at["value"]["mean"],
                    color=how.color,
                    linestyle=how.line,
                    marker=how.marker,
                    markersize=3,
                    label=how.label,
                )
                ax.fill_between(
                    x, at["value"]["min"], at["value"]["max"], color=how.color, alpha=0.15, linewidth=0
                )
        for ax, name in zip(axes, ("step", "device seconds of training"), strict=True):
            ax.set_xlabel(name)
            ax.set_ylabel(f"{score.label} ({extractor})")
            if points["value"].min() > 0 and points["value"].max() > 20 * points["value"].min():
                ax.set_yscale("log")
                ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # mathematics is not parsed
                ax.yaxis.set_minor_formatter("")
            ax.locator_params(axis="x", nbins=5)
        _legend(figure, axes)
    return figure


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
            if max(map(abs, numbers)) < 1e100:
                rows.append((run["id"], run["seed"], *numbers))
    return pd.DataFrame(rows, columns=["id", "seed", "step", "device_s", "value"])


# ---------------------------------------------------------------- scores


def strip(group: Group, extractor: str) -> Figure | None:
    """Every seed's score as a dot, with the mean and its 95 % interval; real data, or bicubic, as a line."""
    known = group.scores(extractor)
    if not known:
        return None
    columns = min(2, len(known))
    rows = math.ceil(len(known) / columns)
    look = looks(group)
    order = [how.label for how in look.values()]
    with style():
        figure, axes = _figure(
            PAGE if columns == 2 else COLUMN, rows * (0.75 + 0.22 * len(order)), rows, columns
        )
        flat = [ax for row in axes for ax in row]
        for ax, score in zip(flat, known, strict=False):
            name = f"metrics.{extractor}.{score.key}"
            for k, row in enumerate(group.summary.to_dict("records")):
                values = group.values(row["id"], name) * score.scale
                offsets = 0.3 * (
                    (np.arange(values.size) * 0.618) % 1 - 0.6
                )  # spread, and the same every time
                how = look[row["id"]]
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
                low, high = row[f"{name}.ci_low"] * score.scale, row[f"{name}.ci_high"] * score.scale
                if not math.isnan(low):
                    ax.plot([low, high], [k + 0.28] * 2, color="0.15", linewidth=1.2)
                ax.plot(row[f"{name}.mean"] * score.scale, k + 0.28, "|", color="0.15", markersize=6)
            for floor in (f"floor.{extractor}.{score.key}.mean", f"{name}_bicubic.mean"):
                if floor not in group.summary:
                    continue
                ax.axvline(
                    float(group.summary[floor].mean()) * score.scale,
                    color="0.3",
                    linewidth=0.9,
                    linestyle=(0, (3, 2)),
                )
            arrow = {"lower": " (lower is better)", "higher": " (higher is better)", None: ""}[score.better]
            ax.set_xlabel(f"{score.label}{arrow}")
            ax.set_ylim(len(order) - 0.5, -0.5)
            ax.set_yticks(range(len(order)), order if ax in [line[0] for line in axes] else [])
            ax.grid(axis="y", visible=False)
        for ax in flat[len(known) :]:
            ax.set_visible(False)
    return figure


def precision_recall(group: Group, extractor: str) -> Figure | None:
    """Precision against recall, a mark per seed: fidelity up, diversity to the right."""
    names = [f"metrics.{extractor}.{key}" for key in ("recall", "precision")]
    if not set(names) <= set(group.runs):
        return None
    with style():
        figure, [[ax]] = _figure(COLUMN, 2.9)
        for run_id, how in looks(group).items():
            part = group.of(run_id)[names].dropna()
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


def profiles(group: Group, extractor: str, score: Score) -> Figure | None:
    """Share of a model's runs with a score at least as good as a threshold; failed runs never are."""
    name = f"metrics.{extractor}.{score.key}"
    values = group.runs[name].to_numpy(dtype=float) * score.scale
    known = values[np.isfinite(values)]
    if known.size < 2 or len(group.summary) < 2 or group.runs.groupby("id").size().max() < 2:
        return None
    margin = 0.05 * max(float(np.ptp(known)), 1e-9)
    thresholds = np.linspace(known.min() - margin, known.max() + margin, 400)
    with style():
        figure, [[ax]] = _figure(COLUMN, 2.5)
        for run_id, how in looks(group).items():
            mine = group.of(run_id)[name].to_numpy(dtype=float) * score.scale
            share = stats.profile(mine, thresholds, better=score.better or "higher")
            ax.step(thresholds, share, color=how.color, linestyle=how.line, label=how.label, where="post")
        sign = "≤" if score.better == "lower" else "≥"
        ax.set(xlabel="τ", ylabel=f"share of runs with {score.label} {sign} τ", ylim=(-0.03, 1.03))
        _legend(figure, [ax])
    return figure


def budget(searches: Sequence[Search]) -> Figure:
    """Expected best validation score of a search against its number of trials, with its 95 % band."""
    import seaborn

    palette = seaborn.color_palette("colorblind", 10)
    with style():
        figure, [[ax]] = _figure(COLUMN, 2.5)
        for k, search in enumerate(searches):
            curve, color, line = search.curve, palette[k % 10], LINES[k % len(LINES)]
            x, label = curve["trials"], _drawable(search.label)
            ax.plot(x, curve["expected"], color=color, linestyle=line, label=label)
            ax.fill_between(x, curve["low"], curve["high"], color=color, alpha=0.15, linewidth=0)
        ax.set(xlabel="trials", ylabel=f"expected best validation {searches[0].objective}")
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


def grids(group: Group) -> Figure | None:
    """The sample grids of one seed side by side: the first seed that most configurations have."""
    shown = _first_seed(group, lambda folder: [("", folder / "samples.png")], 2**12)
    if not shown:
        return None
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    with style():
        side = PAGE / max(2, columns)
        figure, axes = _figure(side * columns, rows * (side + 0.22), rows, columns)
        flat = [ax for row in axes for ax in row]
        for ax in flat:
            ax.axis("off")
        for ax, (label, [(_, image)]) in zip(flat, shown.items(), strict=False):
            ax.imshow(image)
            ax.set_title(label, y=1.0)
    return figure


def filmstrip(group: Group) -> Figure | None:
    """One seed's samples along training, a row per model; None without grids of at least two steps."""
    side = PAGE / 6
    shown = {
        label: frames if len(frames) <= 6 else [frames[round(k * (len(frames) - 1) / 5)] for k in range(6)]
        for label, frames in _first_seed(group, _frames, round(side * DOTS_PER_INCH)).items()
        if len(frames) > 1
    }
    if not shown:
        return None
    columns = max(len(frames) for frames in shown.values())
    with style():
        figure, axes = _figure(side * columns, len(shown) * (side + 0.3), len(shown), 1)
        for [ax], (label, frames) in zip(axes, shown.items(), strict=True):
            wide = max(image.shape[1] for _, image in frames)
            ax.imshow(_strip([image for _, image in frames], columns, wide + GAP), interpolation="none")
            ax.set_title(label, loc="left")
            ax.set_yticks([])
            ax.set_xticks(
                [(k + 0.5) * (wide + GAP) for k in range(len(frames))], [step for step, _ in frames]
            )
            ax.xaxis.tick_top()
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
    return figure


GAP = 6
"""White pixels between the frames of a filmstrip."""


def _strip(images: Sequence[NDArray[np.uint8]], columns: int, width: int) -> NDArray[np.uint8]:
    """Images (H, W, 3) side by side in so many columns, on white."""
    strip = np.full((max(map(len, images)), columns * width, 3), 255, np.uint8)
    for k, image in enumerate(images):
        strip[: image.shape[0], k * width : k * width + image.shape[1]] = image
    return strip


def _frames(folder: Path) -> list[tuple[str, Path]]:
    """The grids that were saved along training, in order: ``samples-000100.png`` -> step 100."""
    names = [(path.stem.removeprefix("samples-"), path) for path in folder.glob("samples-*.png")]
    numbered = sorted((int(step), path) for step, path in names if step.isdecimal())
    return [(f"step {step:,}", path) for step, path in numbered]


def _first_seed(
    group: Group, find: Callable[[Path], list[tuple[str, Path]]], pixels: int
) -> dict[str, list[tuple[str, NDArray[np.uint8]]]]:
    """Per configuration (label) the images that ``find`` names in the folder of its lowest seed with any."""
    found: dict[str, list[tuple[str, NDArray[np.uint8]]]] = {}
    for run_id, how in looks(group).items():
        mine = group.of(run_id)
        for folder in mine["folder"]:
            images = [
                (name, image)
                for name, path in find(Path(folder))
                if (image := _read(path, pixels)) is not None
            ]
            if images:
                found[how.label] = images
                break
    return found


def _read(path: Path, pixels: int) -> NDArray[np.uint8] | None:
    """An image (H, W, 3) of at most so many pixels a side, or None where there is none that can be shown."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                return None
            shown = image.convert("RGB")
            shown.thumbnail((pixels, pixels))
            return np.asarray(shown)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
