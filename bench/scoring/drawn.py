"""Drawn pictures on which the ``generic`` extractor is trained: no photograph, no data set is needed.

A class is one random drawing: some strokes, ellipses, boxes, blobs and gratings on a ground. Its images are
that drawing again, each bent, turned, scaled, moved and coloured a little differently. So a network that
tells the classes apart knows shapes and their places, and ignores what varies within a class. That is the
idea of exemplar networks (Dosovitskiy et al. 2014, arXiv:1406.6909), here with drawings in place of patches
of photographs.

Everything is drawn from one seed, with a random stream that NumPy promises never to change.

Letters beside arrays: H height, W width, P points.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import RandomState
from numpy.typing import NDArray

from bench.data.datasets import Dataset, Images

SIDE = 32
N_CLASSES = 256
N_TRAIN = 60
"""Images of each class."""
N_TEST = 10
SEED = 0
COARSE = (8, 12, 16, 24)
"""A quarter of the images have only so many pixels in each direction, as small images have."""

Floats = NDArray[np.float64]
Mask = Callable[[Floats, Floats, "Shape"], Floats]


@dataclass(frozen=True)
class Shape:
    """One part of a drawing. Coordinates go from -1 to 1."""

    kind: str
    points: Floats
    """(4, 2): the ends of a stroke and what bends it; other shapes lie at the first point."""
    angle: float
    size: Floats
    """(2,): half of the width and of the height."""
    width: float
    """Of a line; of a soft edge."""
    colour: Floats
    """(3,) from 0 to 1."""


@dataclass(frozen=True)
class Drawing:
    """What the images of a class have in common."""

    shapes: tuple[Shape, ...]
    ground: Floats
    """(2, 3): the colours at the left and the right edge."""
    is_grey: bool


def dataset() -> Dataset:
    """The drawn pictures as a data set with classes: 3 channels, 32x32 pixels, equally many of each class."""
    stream = RandomState(SEED)
    drawings = [_drawing(stream) for _ in range(N_CLASSES)]
    train, test = (_images(drawings, n, stream) for n in (N_TRAIN, N_TEST))
    digest = hashlib.sha256()
    for part in (train, test):
        assert part.labels is not None
        digest.update(part.images.tobytes() + part.labels.astype("<i8").tobytes())
    return Dataset("drawn", train, None, test, N_CLASSES, digest.hexdigest())


def _images(drawings: list[Drawing], n: int, stream: RandomState) -> Images:
    """``n`` images of each drawing."""
    labels = np.repeat(np.arange(len(drawings)), n)
    pixels = np.stack([_drawn(_varied(drawings[k], stream)) for k in labels])
    images = torch.from_numpy(pixels)
    for side in COARSE:
        some = torch.from_numpy(stream.rand(len(labels)) < 0.25 / len(COARSE))
        small = F.interpolate(images[some], (side, side), mode="area")
        images[some] = F.interpolate(small, (SIDE, SIDE), mode="bilinear")
    return Images((images.clamp(0, 1) * 255).round().to(torch.uint8).numpy(), labels)


def _drawing(stream: RandomState) -> Drawing:
    """Half of the drawings are grey; half are light strokes on black, as handwriting is."""
    is_written, is_grey = stream.rand(2) < 0.5
    kinds = ("stroke",) if is_written else tuple(MASKS)
    shapes = tuple(
        Shape(
            kind=kinds[stream.randint(len(kinds))],
            points=stream.uniform(-0.8, 0.8, (4, 2)),
            angle=stream.uniform(0, np.pi),
            size=stream.uniform(0.15, 0.7, 2),
            width=stream.uniform(0.08, 0.2),
            colour=stream.uniform(0.7 if is_written else 0, 1, 3),
        )
        for _ in range(stream.randint(1, 5))
    )
    ground = np.zeros((2, 3)) if is_written else stream.uniform(0, 1, (2, 3))
    return Drawing(shapes, ground, bool(is_grey))


def _varied(drawing: Drawing, stream: RandomState) -> Drawing:
    """The same drawing by another hand."""
    turn, grow, move = stream.normal(0, 0.15), stream.uniform(0.8, 1.2), stream.normal(0, 0.14, 2)
    cos, sin = grow * np.cos(turn), grow * np.sin(turn)
    matrix = np.array([[cos, -sin], [sin, cos]]) + stream.normal(0, 0.1, (2, 2))
    thicker = stream.uniform(0.7, 1.4)
    shapes = tuple(
        Shape(
            kind=shape.kind,
            points=(shape.points + stream.normal(0, 0.1, (4, 2))) @ matrix.T + move,
            angle=shape.angle + turn,
            size=shape.size * grow * stream.uniform(0.85, 1.15, 2),
            width=shape.width * thicker,
            colour=(shape.colour + stream.normal(0, 0.08, 3)).clip(0, 1),
        )
        for shape in drawing.shapes
    )
    varies = drawing.ground.any()
    ground = (drawing.ground + stream.normal(0, 0.08, (2, 3)) * varies).clip(0, 1)
    return Drawing(shapes, ground, drawing.is_grey)


def _drawn(drawing: Drawing) -> NDArray[np.float32]:
    """The pixels (3, H, W), from 0 to 1."""
    across = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = np.meshgrid(across, across, indexing="ij")
    share = (x + 1) / 2
    left, right = drawing.ground[:, :, None, None]
    image = left + (right - left) * share
    for shape in drawing.shapes:
        mask = MASKS[shape.kind](x, y, shape)
        image = image + mask * (shape.colour[:, None, None] - image)
    if drawing.is_grey:
        image = np.broadcast_to(image.mean(axis=0), image.shape)
    return np.asarray(image, dtype=np.float32)


def _soft(distance: Floats) -> Floats:
    """From signed distances in the plane: 1 inside, 0 outside, with an edge of one pixel."""
    return (0.5 - distance * SIDE / 2).clip(0, 1)


def _local(x: Floats, y: Floats, shape: Shape) -> tuple[Floats, Floats]:
    """Coordinates along the axes of a shape."""
    dx, dy = x - shape.points[0, 0], y - shape.points[0, 1]
    cos, sin = np.cos(shape.angle), np.sin(shape.angle)
    return cos * dx + sin * dy, cos * dy - sin * dx


def _stroke(x: Floats, y: Floats, shape: Shape) -> Floats:
    """Along a cubic Bézier curve."""
    t = np.linspace(0, 1, 41)[:, None]
    a, b, c, d = shape.points
    curve = (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t**2 * (1 - t) * c + t**3 * d
    squares = (x[..., None] - curve[:, 0]) ** 2 + (y[..., None] - curve[:, 1]) ** 2
    return _soft(np.sqrt(squares.min(axis=-1)) - shape.width / 2)


def _ellipse(x: Floats, y: Floats, shape: Shape) -> Floats:
    u, v = _local(x, y, shape)
    return _soft((np.hypot(u / shape.size[0], v / shape.size[1]) - 1) * shape.size.min())


def _ring(x: Floats, y: Floats, shape: Shape) -> Floats:
    u, v = _local(x, y, shape)
    return _soft(
        np.abs(np.hypot(u / shape.size[0], v / shape.size[1]) - 1) * shape.size.min() - shape.width / 2
    )


def _box(x: Floats, y: Floats, shape: Shape) -> Floats:
    u, v = _local(x, y, shape)
    return _soft(np.maximum(np.abs(u) - shape.size[0], np.abs(v) - shape.size[1]))


def _blob(x: Floats, y: Floats, shape: Shape) -> Floats:
    u, v = _local(x, y, shape)
    return np.asarray(np.exp(-0.5 * ((u / shape.size[0]) ** 2 + (v / shape.size[1]) ** 2) * 2))


def _grating(x: Floats, y: Floats, shape: Shape) -> Floats:
    u, _ = _local(x, y, shape)
    return _ellipse(x, y, shape) * (0.5 + 0.5 * np.sin(u * np.pi / shape.width))


MASKS: dict[str, Mask] = {
    "stroke": _stroke,
    "ellipse": _ellipse,
    "ring": _ring,
    "box": _box,
    "blob": _blob,
    "grating": _grating,
}
