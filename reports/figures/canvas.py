"""What all figures share: sizes, style, legend, axes, and how they are written.

Figures are made for a paper: readable in grey, at column width, and by colour-blind readers. They never touch
pyplot's global state.
"""

from __future__ import annotations

import colorsys
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.scoring.scores import Score
from bench.store.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLUMN = 3.3
"""Inches: one column of a two-column paper."""
PAGE = 6.9
"""Inches: both columns."""
DOTS_PER_INCH = 200

TALLEST = 9.0
"""Inches: what a page holds above its caption."""
MOST_ROWS = 6
"""Models below one another; where there are more, two share a row."""
MOST_BANDS = 6
"""Curves in a panel that are drawn with their range. Of more curves the ranges would hide the lines."""
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
    """The style of all figures, within a ``with`` block."""
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


def adopt(figure: Figure) -> None:
    """Give a figure that another library drew the look of ours: size, type, ground, grid and frame.

    Its colours stay: they may have a meaning.
    """
    from matplotlib.text import Text

    wide, high = figure.get_size_inches()
    figure.set_size_inches(PAGE, min(TALLEST, max(0.4, high / wide) * PAGE))
    figure.set_facecolor("white")
    for text in figure.findobj(Text):
        text.set(fontsize=STYLE["font.size"], color="black", fontfamily="sans-serif")
    for ax in figure.axes:
        ax.set_facecolor("white")
        ax.tick_params(labelsize=STYLE["xtick.labelsize"], colors="black", grid_color=STYLE["grid.color"])
        ax.tick_params(grid_linewidth=STYLE["grid.linewidth"])
        ax.set_axisbelow(True)
        for side, spine in ax.spines.items():
            spine.set(visible=side in ("left", "bottom"), color="black", linewidth=STYLE["axes.linewidth"])
        if held := ax.get_legend():
            held.set_frame_on(False)


PAPER, INK = (0.078, 0.090, 0.102), (0.91, 0.918, 0.929)
"""Of dark figures: the colours of the page's dark style in ``report.css``."""


def dark(figure: Figure) -> bytes:
    """The figure as a PNG for a dark page: greys are inverted, colours made light enough. Pictures stay.

    The figure was saved before; it is dark from now on.
    """
    from matplotlib.collections import Collection
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.text import Text

    for artist in {id(each): each for each in figure.findobj()}.values():
        if isinstance(artist, Text):
            artist.set_color(tuple(_darkened(artist.get_color())[0]))
            if box := artist.get_bbox_patch():
                box.set_facecolor(tuple(_darkened(box.get_facecolor())[0]))
        elif isinstance(artist, Line2D):
            artist.set_color(tuple(_darkened(artist.get_color())[0]))
        elif isinstance(artist, Patch):
            artist.set_facecolor(tuple(_darkened(artist.get_facecolor())[0]))
            artist.set_edgecolor(tuple(_darkened(artist.get_edgecolor())[0]))
        elif isinstance(artist, Collection):
            artist.set_facecolor(list(map(tuple, _darkened(artist.get_facecolor()))))
            artist.set_edgecolor(list(map(tuple, _darkened(artist.get_edgecolor()))))
    for ax in figure.axes:  # of their ticks some are made only when they are drawn
        grid = tuple(_darkened(STYLE["grid.color"])[0])
        ax.tick_params(which="both", colors=INK, grid_color=grid)
    stream = BytesIO()
    with style():
        figure.savefig(stream, format="png", **SAVED["png"])
    return stream.getvalue()


def _darkened(color: Any) -> NDArray[np.float64]:
    """Colours (N, 4) for a dark ground: white becomes PAPER, black INK; the hue of others is kept."""
    from matplotlib.colors import to_rgba_array

    found = np.asarray(to_rgba_array(color), dtype=np.float64).copy()
    for rgba in found:
        hue, light, saturation = colorsys.rgb_to_hls(*rgba[:3])
        if max(rgba[:3]) - min(rgba[:3]) < 0.06:
            rgba[:3] = np.array(INK) + (np.array(PAPER) - np.array(INK)) * light
        else:
            rgba[:3] = colorsys.hls_to_rgb(hue, max(light, 0.55), saturation)
    return found


def figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[list[Axes]]]:
    """A figure of this size in inches, and its panels, row by row."""
    figure = _empty(width, height)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in axes]


def rows(width: float, height: float, sizes: Sequence[int]) -> tuple[Figure, list[list[Axes]]]:
    """A figure of this size in inches, and its rows of panels: each row is as wide as the figure."""
    figure = _empty(width, height)
    parts = math.lcm(*sizes)
    grid = figure.add_gridspec(len(sizes), parts)
    return figure, [
        [figure.add_subplot(grid[k, j * parts // n : (j + 1) * parts // n]) for j in range(n)]
        for k, n in enumerate(sizes)
    ]


def _empty(width: float, height: float) -> Figure:
    from reports.figures.shown import ShownFigure

    return ShownFigure(STYLE, figsize=(width, height), dpi=DOTS_PER_INCH)


def title(figure: Figure, text: str) -> None:
    """One title above all panels; the figure grows where it takes several lines."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(text, int(width / 0.065))
    figure.set_size_inches(width, height + 0.14 * (len(lines) - 1))
    figure.suptitle("\n".join(lines), fontsize=9, fontweight="bold")


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend below all axes; the figure grows to hold it."""
    named = {
        label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    width, height = figure.get_size_inches()
    longest = max(map(len, named), default=0)
    columns = max(1, min(len(named), int(width / (0.5 + 0.052 * longest))))
    figure.set_size_inches(width, height + 0.17 * math.ceil(len(named) / columns))
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=columns)


def wide(values: NDArray[np.float64], score: Score) -> bool:
    """Whether scores need a logarithmic axis, because the worst would hide the rest, and can have one."""
    return bool(score.better == "lower" and values.min() > 0 and values.max() > 20 * values.min())


def score_against(ax: Axes, x: str, y: str, values: pd.Series, score: Score) -> None:
    """Axes of a score against ``x``: their labels, and a logarithmic axis where these values need one."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if wide(values.to_numpy(), score):
        ax.set_yscale("log")
        plain_decades(ax.yaxis)
    ax.locator_params(axis="x", nbins=5)


def plain_decades(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis: 10, 30, 100 …, since no mathematics is parsed."""
    from matplotlib.ticker import LogLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 3) if high < 300 * low else (1,)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter("")
