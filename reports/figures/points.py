"""Figures of points in the plane: samples over the modes of the data, at the end and along training.

They are drawn from the ``points.npz`` that each run left (:mod:`bench.scoring.film` writes it).
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.scoring.scores import OBJECTIVES, REVERSE_KL
from bench.store.files import reading
from reports.figures import canvas
from reports.figures.styles import Style
from reports.folder import is_file
from reports.groups import Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

MOST_BYTES = 2**26
"""Larger files are not films of this harness, and are left out."""
MARK = 0.035
"""Radius of the circle that marks a mode, as a fraction of the panel's width."""
ROUND = 0.22
"""Empty space around the modes, as a fraction of their extent."""
MOST_FRAMES, DOTS = 40, 400
"""Of an animation, and samples of a panel: a few hundred kB."""
PANEL, HEAD = 420, 40
"""Pixels of a panel of an animation, and of the lines above and below; shown at half the size."""


@dataclass(frozen=True, eq=False)
class Film:
    """The samples of one run at its evaluations."""

    seed: int
    steps: NDArray[np.int64]
    samples: NDArray[np.float32]
    """(T, n, 2)."""
    centres: NDArray[np.float64]
    """(K, 2)."""

    @property
    def limits(self) -> tuple[float, float]:
        """Of both axes, which are the same: the modes with some space around them."""
        low, high = float(self.centres.min()), float(self.centres.max())
        return low - ROUND * (high - low), high + ROUND * (high - low)

    def at(self, step: int) -> NDArray[np.float32]:
        """The samples (n, 2) of the last evaluation up to a step, or of the first one."""
        found: NDArray[np.float32] = self.samples[max(0, int((self.steps <= step).sum()) - 1)]
        return found


def first_films(group: Group) -> dict[str, Film]:
    """Per configuration (id) the film of its lowest seed with any."""
    found: dict[str, Film] = {}
    for run_id in group.summary["id"]:
        mine = group.of(run_id)
        for seed, folder in zip(mine["seed"], mine["folder"], strict=True):
            if (film := read(Path(folder) / "points.npz", int(seed))) is not None:
                found[run_id] = film
                break
    return found


def read(path: Path, seed: int) -> Film | None:
    """The film in a file, or None where there is none that can be shown."""
    if not is_file(path):
        return None
    try:
        with reading(path, MOST_BYTES) as file, np.load(file) as held:
            steps, samples, centres = (held[name] for name in ("steps", "samples", "centres"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = steps.shape == samples.shape[:1] and samples.shape[2:] == centres.shape[1:] == (2,)
    numbers = all(array.dtype.kind in "if" for array in (steps, samples, centres))
    if not (fits and numbers and len(steps) and len(centres) and np.isfinite(centres).all()):
        return None
    return Film(seed, steps, samples, centres)


# ------------------------------------------------------------------ figures


def scatter(group: Group, films: Mapping[str, Film], styles: Mapping[str, Style]) -> Figure | None:
    """The samples of the last evaluation, one panel per model."""
    if not films:
        return None
    columns = min(4, max(2, len(films)))
    rows = math.ceil(len(films) / columns)
    side = canvas.PAGE / max(3, columns)
    with canvas.style():
        figure, axes = canvas.figure(side * columns, rows * (side + 0.34), rows, columns)
        flat = [ax for row in axes for ax in row]
        for ax, (run_id, film) in zip(flat, films.items(), strict=False):
            _panel(ax, film, film.samples[-1], styles[run_id])
            ax.set_title(f"{styles[run_id].label}\n{_scores(group, run_id, film)}".rstrip())
        for ax in flat[len(films) :]:
            ax.remove()
    return figure


def filmstrip(films: Mapping[str, Film], styles: Mapping[str, Style]) -> Figure | None:
    """Samples along training: a row per model, more and more steps apart."""
    shown = {run_id: film for run_id, film in films.items() if len(film.steps) > 1}
    if not shown:
        return None
    longest = max(shown.values(), key=lambda film: len(film.steps))
    n = len(longest.steps)
    steps = longest.steps[np.unique(np.geomspace(1, n, min(n, 6)).round().astype(int)) - 1]
    side = canvas.PAGE / 6
    side = min(side, (canvas.TALLEST - 0.3) / len(shown))
    with canvas.style():
        figure, axes = canvas.figure(
            side * len(steps) + 0.2, side * len(shown) + 0.25, len(shown), len(steps)
        )
        for row, (run_id, film) in zip(axes, shown.items(), strict=True):
            for ax, step in zip(row, steps, strict=True):
                if step <= film.steps[-1]:
                    _panel(ax, film, film.at(step), styles[run_id])
                else:
                    ax.axis("off")
                if row is axes[0]:
                    ax.set_title(f"step {step:,}")
            row[0].set_ylabel(styles[run_id].label)
    return figure


def _panel(ax: Axes, film: Film, samples: NDArray[np.float32], how: Style) -> None:
    """Samples as dots over circles that mark the modes."""
    from matplotlib.collections import EllipseCollection

    low, high = film.limits
    wide = [2 * MARK * (high - low)] * len(film.centres)
    marks: dict[str, Any] = {"units": "xy", "offsets": film.centres, "offset_transform": ax.transData}
    ax.add_collection(
        EllipseCollection(wide, wide, [0], facecolor="0.92", edgecolor="0.6", linewidth=0.5, **marks)
    )
    ax.scatter(samples[:, 0], samples[:, 1], s=1.5, color=how.color, alpha=0.5, linewidth=0)
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal", xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.spines[:].set(visible=True, color="0.7")


def _scores(group: Group, run_id: str, film: Film) -> str:
    """What the run of a film scored: ``5.3 of 8 modes, reverse KL 0.41``."""
    mine = group.of(run_id)
    row = mine[mine["seed"] == film.seed].iloc[0]
    names = [score.column("points") for score in (OBJECTIVES["modes"], REVERSE_KL)]
    modes, kl = (float(row[name]) if name in mine else math.nan for name in names)
    if math.isnan(modes):
        return str(row["status"])
    return f"{modes:.3g} of {len(film.centres)} modes, KL {kl:.2f}"


# ------------------------------------------------------------------ the animation


def animation(films: Mapping[str, Film], styles: Mapping[str, Style]) -> bytes | None:
    """All models side by side during training, as a GIF that repeats; None without two evaluations."""
    films = {run_id: film for run_id, film in films.items() if len(film.steps) > 1}
    if not films:
        return None
    steps = max((film.steps for film in films.values()), key=len)
    steps = steps[:: -(-len(steps) // MOST_FRAMES)] if len(steps) > MOST_FRAMES else steps
    first, *others = [_frame(films, styles, int(step)) for step in steps]
    stream = BytesIO()
    times = [120] * len(others) + [2000]  # milliseconds
    first.save(stream, "gif", save_all=True, append_images=others, duration=times, loop=0, optimize=True)
    return stream.getvalue()


def _frame(films: Mapping[str, Film], styles: Mapping[str, Style], step: int) -> Image:
    """The panels at one step, at twice the size and then made smaller, so that dots have soft edges."""
    from matplotlib.font_manager import findfont
    from PIL import Image, ImageDraw, ImageFont

    columns = min(4, len(films))
    rows = math.ceil(len(films) / columns)
    image = Image.new("RGB", (columns * PANEL, rows * (PANEL + HEAD) + HEAD), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.truetype(findfont("DejaVu Sans"), HEAD // 2)
    for k, (run_id, film) in enumerate(films.items()):
        x, y = k % columns * PANEL, k // columns * (PANEL + HEAD)
        draw.text((x + PANEL / 2, y + HEAD / 2), styles[run_id].label, "black", font, anchor="mm")
        image.paste(_drawn(film, step, styles[run_id]), (x, y + HEAD))
    draw.text((image.width / 2, image.height - HEAD / 2), f"step {step:,}", "black", font, anchor="mm")
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX).quantize(32)


def _drawn(film: Film, step: int, how: Style) -> Image:
    """One panel: circles that mark the modes, and dots."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (PANEL, PANEL), "white")
    draw = ImageDraw.Draw(image)
    low, high = film.limits
    draw.rectangle((8, 8, PANEL - 8, PANEL - 8), outline="#b3b3b3", width=2)

    def dots(points: NDArray[Any], radius: float, fill: Any, outline: Any = None) -> None:
        inside = points[((points > low) & (points < high)).all(axis=1)]
        for x, y in (inside - low) / (high - low) * (PANEL - 24) + 12:
            draw.ellipse((x - radius, PANEL - y - radius, x + radius, PANEL - y + radius), fill, outline, 2)

    dots(film.centres, MARK * (PANEL - 24), "#ebebeb", "#999999")
    color = tuple(round(255 * part) for part in how.color)
    dots(film.at(step)[:DOTS], 2.5, color, color)
    return image
