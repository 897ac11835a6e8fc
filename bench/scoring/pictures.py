"""Files of samples: the grid of a run, and arrays."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.gan import Gan, Nets
from baselines.training.step import DataBatch, to_uint8
from baselines.training.streams import derive, draw
from bench.scoring.evaluator import Evaluator
from bench.scoring.superresolution import bicubic
from bench.store import files
from bench.torchvision_import import import_torchvision

ROWS = COLUMNS = 10
BLOCK = 2**22
"""Numbers of a block of training images, to look for the nearest ones: 32 MB."""
MIN_SIDE = 560
"""Pixels. Small images are enlarged by a whole factor, so that the grid is about this wide."""


def sample_grid(gan: Gan, nets: Nets, evaluator: Evaluator, path: Path) -> None:
    """Write a PNG of 10 × 10 samples. The noise is the same for every model, seed and step.

    Where the data has labels, each column asks for one class, in order; unconditional models ignore that.
    For super-resolution there are ten examples of four images: low resolution, bicubic, restored, original.
    """
    rows = grid_examples(evaluator.labels, len(evaluator))  # (rows, columns)
    batch = DataBatch(evaluator.images, evaluator.labels, rows.flatten().to(evaluator.device))
    fakes = _samples(gan, nets, evaluator, batch, rows.numel())
    if gan.low_resolution is None:
        write_grid(to_uint8(fakes).cpu(), rows.shape[1], path)
        return
    with torch.inference_mode():
        low = gan.low_resolution(batch)
        scale = batch["image"].shape[-1] // low.shape[-1]
        blocks = low.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
        steps = torch.stack([blocks, bicubic(low, scale), fakes, batch["image"]], 1)  # (N, 4, C, H, W)
        write_grid(to_uint8(steps[:ROWS].flatten(0, 1)).cpu(), 4, path)


def _samples(gan: Gan, nets: Nets, evaluator: Evaluator, batch: DataBatch, n: int) -> Tensor:
    """The n samples of the grid (n, C, H, W) in [-1, 1]."""
    with torch.inference_mode():
        generator = torch.Generator(evaluator.device).manual_seed(derive(0, "grid"))
        return gan.generate(nets, batch, draw(gan.noise, (n,), generator))


def real_beside(gan: Gan, nets: Nets, evaluator: Evaluator, folder: Path) -> None:
    """Write what samples are looked at beside: ``real.png`` and ``neighbours.png``.

    The first is a grid of real images of the evaluator's split, laid out as that of :func:`sample_grid`. The
    second has two rows: the first row of that grid, and below each sample the training image that is nearest
    to it in squared differences of pixels. A grid of super-resolution shows the originals itself.
    """
    if gan.low_resolution is not None:
        return
    rows = grid_examples(evaluator.labels, len(evaluator))
    batch = DataBatch(evaluator.images, evaluator.labels, rows.flatten().to(evaluator.device))
    samples = to_uint8(_samples(gan, nets, evaluator, batch, rows.numel())).cpu()
    _real_grids(samples[: rows.shape[1]], evaluator, folder)


def _real_grids(first_row: Tensor, evaluator: Evaluator, folder: Path) -> None:
    """The pictures of :func:`real_beside`, of the first row of a grid of samples (N, C, H, W), uint8."""
    rows = grid_examples(evaluator.labels, len(evaluator))
    write_grid(evaluator.images.cpu()[rows.flatten()], rows.shape[1], folder / "real.png")
    train = torch.from_numpy(evaluator.dataset.train.images)
    # Where channels are drawn each on its own, so is the nearest of each.
    parts = torch.split(first_row, train.shape[1], dim=1)
    nearest_ones = torch.cat([train[nearest(part, train)] for part in parts], dim=1)
    pairs = torch.cat([first_row, nearest_ones])
    write_grid(pairs, len(first_row), folder / "neighbours.png")


def nearest(samples: Tensor, images: Tensor) -> Tensor:
    """For each of N uint8 samples (N, C, H, W) the index of the nearest of M images (M, C, H, W): (N,).

    In squared differences, summed over pixels: whole numbers, exact in float64, so that any number of threads
    finds the same. Of several that are equally near, the first.
    """
    a = samples.flatten(1).double()
    best = torch.full((len(a),), torch.inf, dtype=torch.float64)
    index = torch.zeros(len(a), dtype=torch.int64)
    block = max(1, BLOCK // a.shape[1])
    for start in range(0, len(images), block):
        b = images[start : start + block].flatten(1).double()
        squares, at = (b.square().sum(1) - 2 * a @ b.T).min(1)  # of a alone, all have the same
        index = torch.where(squares < best, start + at, index)
        best = torch.minimum(squares, best)
    return index


def given_grid(images: Tensor, labels: Tensor | None, evaluator: Evaluator, folder: Path) -> None:
    """Write ``samples.png`` of samples (N, C, H, W), uint8, that were made elsewhere.

    With labels (N,) each column is of one class. Beside it lie the pictures of :func:`real_beside`.
    """
    if labels is not None:
        rows = grid_examples(labels, len(images))
    else:
        columns = min(COLUMNS, evaluator.dataset.n_classes or COLUMNS, len(images))
        rows = torch.arange(min(len(images) // columns, ROWS) * columns).reshape(-1, columns)
    write_grid(images[rows.flatten()], rows.shape[1], folder / "samples.png")
    _real_grids(images[rows[0]], evaluator, folder)


def grid_examples(labels: Tensor | None, n: int) -> Tensor:
    """The reference examples (rows, columns) whose conditions the grid asks for: one class per column."""
    if labels is None:
        columns = min(n, COLUMNS)
        return torch.arange(min(n // columns, ROWS) * columns).reshape(-1, columns)
    labels = labels.cpu()
    of_class = [torch.nonzero(labels == label).flatten() for label in range(COLUMNS)]
    return torch.stack([found[torch.arange(ROWS) % len(found)] for found in of_class if len(found)], 1)


def write_grid(images: Tensor, columns: int, path: Path) -> None:
    """uint8 images (N, C, H, W), row by row, as one PNG, written atomically."""
    import_torchvision()
    from torchvision.utils import save_image

    grid = _grid(images, columns)
    files.write_atomic(path, lambda temporary: save_image(grid, temporary, format="png"))


def write_film(frames: NDArray[np.uint8], columns: int, path: Path, *, milliseconds: int = 80) -> None:
    """Grids of images, frames (T, N, H, W, C), as a GIF that repeats, written atomically."""
    import_torchvision()
    from torchvision.transforms.functional import to_pil_image

    first, *others = [
        to_pil_image(_grid(torch.from_numpy(images).permute(0, 3, 1, 2), columns)) for images in frames
    ]
    options = {"save_all": True, "append_images": others, "duration": milliseconds, "loop": 0}
    files.write_atomic(path, lambda temporary: first.save(temporary, format="gif", **options))


def _grid(images: Tensor, columns: int) -> Tensor:
    """uint8 images (N, C, H, W), row by row, enlarged, as one image (3, H', W') in [0, 1]."""
    from torchvision.utils import make_grid

    factor = max(1, MIN_SIDE // (columns * images.shape[-1]))
    large = images.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    grid: Tensor = make_grid(large.float() / 255, nrow=columns, padding=2, pad_value=1.0)
    return grid


def write_arrays(images: NDArray[Any], labels: NDArray[np.int64] | None, path: Path) -> None:
    """Images (N, H, W, C), or points (N, 2), as ``arr_0``; labels (N,) that were asked for as ``arr_1``."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a name, NumPy would add .npz to it
            np.savez_compressed(file, *(part for part in (images, labels) if part is not None))

    files.write_atomic(path, write)


def n_images(path: Path) -> int:
    """How many images a file of :func:`write_arrays` holds; 0 where there is none that can be read."""
    try:
        with files.reading(path, most=math.inf) as file, np.load(file) as held:
            return len(held["arr_0"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return 0


def write_folder(images: NDArray[np.uint8], labels: NDArray[np.int64] | None, folder: Path) -> None:
    """Images (N, H, W, C) as PNGs; those that were asked for a label in a folder of that name."""
    import_torchvision()
    from torchvision.transforms.functional import to_pil_image

    for k, image in enumerate(images):
        place = folder if labels is None else folder / str(labels[k])
        picture = to_pil_image(image)
        files.write_atomic(
            place / f"{k:06}.png",
            lambda temporary, picture=picture: picture.save(temporary, format="png"),  # type: ignore[misc]
            durable=False,
        )
