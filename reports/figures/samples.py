"""Figures of samples: the final grids side by side, and samples along training."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.store.files import reading
from reports.figures import canvas
from reports.figures.styles import Style
from reports.folder import is_file
from reports.groups import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_PIXELS = 2**24
"""Larger pictures are not sample grids of this harness, and are left out."""

Pictures = list[tuple[str, NDArray[np.uint8]]]
"""Caption and image (H, W, 3)."""


def grids(
    group: Group, shown: Mapping[str, tuple[int, Pictures]], styles: Mapping[str, Style]
) -> Figure | None:
    """The sample grids that :func:`first_grids` found, side by side; real images, if there are any, first."""
    if not shown:
        return None
    panels = [(REAL, image) for image in real_images(group)]
    panels += [(styles[run_id].label, image) for run_id, (_, [(_, image)]) in shown.items()]
    columns = min(4, len(panels))
    rows = math.ceil(len(panels) / columns)
    side = canvas.PAGE / max(2, columns)
    titles = [_wrapped(name, side) for name, _ in panels]
    heads = HEADS.get(group.task, ())
    lines = 1 + any("\n" in title for title in titles) + bool(heads)
    with canvas.style():
        figure, axes = canvas.figure(side * columns, rows * (side + 0.08 + 0.14 * lines), rows, columns)
        flat = [ax for row in axes for ax in row]
        for ax in flat:
            ax.axis("off")
        for ax, title, (_, image) in zip(flat, titles, panels, strict=False):
            ax.imshow(image)
            ax.set_title(title, y=1.0, pad=14 if heads else None)
            for k, head in enumerate(heads):
                x = (k + 0.5) / len(heads)
                ax.text(x, 1.01, head, transform=ax.transAxes, ha="center", va="bottom", fontsize=6)
    return figure


REAL = "real data"

HEADS = {"super-resolution": ("low res", "bicubic", "model", "original")}
"""Task -> the heads of its grids' columns."""


def _wrapped(name: str, width: float) -> str:
    """A title in at most two lines of so many inches."""
    return "\n".join(textwrap.wrap(name, int(width / 0.06), max_lines=2, placeholder="…"))


def filmstrip(
    group: Group, shown: Mapping[str, tuple[int, Pictures]], styles: Mapping[str, Style]
) -> Figure | None:
    """The samples along training that :func:`first_frames` found; None without those of two steps."""
    strips = {run_id: frames for run_id, (_, frames) in shown.items() if len(frames) > 1}
    if not strips:
        return None
    across, most = _places(group)
    rows = math.ceil(len(strips) / across)
    columns = min(most, max(map(len, strips.values())))
    side = canvas.PAGE / across / most
    with canvas.style():
        figure, axes = canvas.figure(side * columns * across, rows * (side + 0.3), rows, across)
        flat = [ax for row in axes for ax in row]
        for ax, (run_id, frames) in zip(flat, strips.items(), strict=False):
            wide = max(image.shape[1] for _, image in frames)
            ax.imshow(_strip([image for _, image in frames], columns, wide + GAP), interpolation="none")
            ax.set_title(styles[run_id].label, loc="left")
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
    return (1, 6) if len(group.summary) <= canvas.MOST_ROWS else (2, 4)


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


def real_images(group: Group) -> list[NDArray[np.uint8]]:
    """The grid of real images that one of the group's runs left; empty where none did."""
    found = _first_seed(group, lambda folder: [("", folder / "real.png")], 2**12, None)
    return [image for _, [(_, image)] in found.values()][:1]


def neighbours(group: Group) -> dict[str, tuple[int, Pictures]]:
    """Per configuration (id) the lowest seed with a picture of samples above the nearest training images."""
    return _first_seed(group, lambda folder: [("", folder / "neighbours.png")], 2**12, None)


def first_frames(group: Group) -> dict[str, tuple[int, Pictures]]:
    """Per configuration (id) the lowest seed with grids along training, and a corner of some of those."""
    across, most = _places(group)
    side = round(canvas.PAGE / across / most * canvas.DOTS_PER_INCH)
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
