"""Images in arrays that were made elsewhere: read whole or in part, checked, and never guessed.

``.npy`` and ``.npz`` are NumPy's formats. The files may come from anywhere: nothing in them is executed
(arrays of Python objects are refused), and what a header promises is compared with the file's size before
anything is read. Only as many images are read as are asked for.

Letters beside arrays: N images, C channels, H height, W width.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from bench.data import folder
from bench.errors import UsageError, nearest
from bench.store.files import reading

Layout = Literal["NHWC", "NCHW"]
LAYOUTS: tuple[Layout, ...] = ("NHWC", "NCHW")
CHANNELS = (1, 3)
"""Grey or colour."""
SUFFIXES = (".npy", ".npz")
CHUNK = 2**24
"""Numbers that are converted at once."""
MOST_BYTES = 2**34
"""Of pixels in memory."""
MOST_HEADER = 10_000
"""Bytes of the header of an array."""
BROKEN = (ValueError, SyntaxError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What the readers of both formats raise where a file is damaged."""


@dataclass(frozen=True)
class Reading:
    """What a file does not say of itself."""

    key: str | None = None
    """The array of images in an ``.npz``; None: ``arr_0``."""
    labels_key: str | None = None
    """The array of labels in it; None: ``arr_1``, if there is one."""
    layout: Layout | None = None
    """The order of the axes, if sizes do not tell."""
    value_range: tuple[float, float] | None = None
    """What black and white are, of float images."""
    unlabelled: bool = False
    """Whether labels are left out."""


@dataclass(frozen=True, eq=False)
class Read:
    """What was read: images (N, C, H, W) uint8 and, if there are any, labels (N,) int64 from 0."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    n_held: int
    """How many images there are; N or more."""
    notes: list[str] = field(default_factory=list)
    """What looks odd and may be right; one line each."""


# ------------------------------------------------------------------ arrays


def read_array(
    path: Path,
    how: Reading | None = None,
    *,
    shape: tuple[int, int, int] | None = None,
    most: int | None = None,
) -> Read:
    """The first ``most`` images of an ``.npy`` or ``.npz`` file, or all of them.

    Images are uint8 (0 black, 255 white) or, with ``how.value_range``, float. They lie as N×H×W×C or N×C×H×W,
    and grey ones also as N×H×W. ``shape`` is the (C, H, W) that they must have.

    Raises:
        UsageError: the file, its images or its labels cannot be used. One line: what, and how to mend it.
    """
    how = how or Reading()
    with _arrays(path) as members:
        name = _chosen(members, how.key)
        with members[name].open() as file:
            header = _header(file, members[name].size, name)
            layout, found = _layout(header.shape, how.layout, shape)
            if shape is not None and found != shape:
                raise UsageError(wrong_shape(found, shape))
            _check_type(header.dtype, how.value_range)
            n = header.shape[0] if most is None else min(most, header.shape[0])
            if n * prod(found) > MOST_BYTES:
                raise UsageError(f"{n:,} images of {prod(found):,} bytes are more than {MOST_BYTES:,} bytes")
            images = np.empty((n, *found), np.uint8)
            seen = _Seen()
            at = 0
            for part in _rows(file, header, n):
                numbers = part.reshape(-1, *_stored(found, layout))
                seen.look(numbers, how.value_range, at)
                pixels = _to_uint8(numbers, how.value_range)
                images[at : at + len(part)] = pixels if layout == "NCHW" else pixels.transpose(0, 3, 1, 2)
                at += len(part)
        labels = _array_labels(members, how, header.shape[0], n)
    return Read(images, labels, header.shape[0], notes=seen.notes(how.value_range))


@dataclass(frozen=True)
class _Member:
    """One array of a file, not read yet."""

    path: Path
    entry: str
    """Its name in the archive; empty for an ``.npy``."""
    size: int
    """Bytes, not compressed."""

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        with reading(self.path, float("inf")) as file:
            if not self.entry:
                yield file
                return
            with zipfile.ZipFile(file) as archive, archive.open(self.entry) as member:
                yield member


@contextmanager
def _arrays(path: Path) -> Iterator[dict[str, _Member]]:
    """The arrays of a file by name; within the block, damage is an error of one line."""
    try:
        with reading(path, float("inf")) as file:
            if path.suffix.lower() == ".npy":
                found = {"": _Member(path, "", path.stat().st_size)}
            elif path.suffix.lower() == ".npz":
                with zipfile.ZipFile(file) as archive:
                    found = {
                        info.filename.removesuffix(".npy"): _Member(path, info.filename, info.file_size)
                        for info in archive.infolist()
                    }
            else:
                raise UsageError(f"is neither a folder nor one of {', '.join(SUFFIXES)}")
        yield found
    except FileNotFoundError as error:
        raise UsageError("there is no such file or folder") from error
    except BROKEN as error:
        why = " ".join(str(error).split())[:200]
        raise UsageError(f"is damaged, or not of its format: {why}") from error


def _chosen(members: dict[str, _Member], key: str | None) -> str:
    """The name of the array of images."""
    if "" in members:
        if key is not None:
            raise UsageError(f"--key {key!r}: an .npy file holds one array, without a name")
        return ""
    name = key if key is not None else "arr_0"
    if name not in members:
        has = ", ".join(map(repr, members)) or "nothing"
        flag = f"--key {name!r}: there" if key is not None else "there"
        raise UsageError(
            f"{flag} is no array {name!r} in it, but {has}; name one with --key{nearest(name, members)}"
        )
    return name


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


def _header(file: IO[bytes], size: int, name: str) -> _Header:
    """Shape and type of an array, which its file really holds; the file then stands at the first number."""
    what = f"array {name!r}" if name else "the array"
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise UsageError(f"{what} has version {version} of NumPy's format; save it with np.save")
    shape, fortran, dtype = readers[version](file, max_header_size=MOST_HEADER)
    if dtype.hasobject:
        raise UsageError(f"{what} holds Python objects, which are not read; save plain numbers")
    if fortran and len(shape) > 1:
        raise UsageError(f"{what} lies in Fortran order; save np.ascontiguousarray of it")
    here = file.tell()
    if size - here != prod(shape) * dtype.itemsize:
        raise UsageError(
            f"{what} is damaged: {size - here:,} bytes of numbers, and {dtype} {shape} needs "
            f"{prod(shape) * dtype.itemsize:,}"
        )
    return _Header(shape, dtype)


def _rows(file: IO[bytes], header: _Header, n: int) -> Iterator[NDArray[np.generic]]:
    """The first n entries along the first axis, some at a time."""
    each = prod(header.shape[1:])
    step = max(1, CHUNK // max(1, each))
    for start in range(0, n, step):
        count = min(step, n - start)
        data = file.read(count * each * header.dtype.itemsize)
        if len(data) != count * each * header.dtype.itemsize:
            raise EOFError("it ends before its last number")
        yield np.frombuffer(data, header.dtype).reshape(count, *header.shape[1:])


def _layout(
    shape: tuple[int, ...], said: Layout | None, wanted: tuple[int, int, int] | None
) -> tuple[Layout, tuple[int, int, int]]:
    """The order of the axes, and (C, H, W).

    Raises:
        UsageError: it is no array of images, or both orders are possible and none was said.
    """
    if len(shape) == 3:  # grey
        shape = (*shape, 1) if said != "NCHW" else (shape[0], 1, *shape[1:])
    if len(shape) != 4 or 0 in shape:
        raise UsageError(f"has shape {shape}; images are N×H×W×C, N×C×H×W, or N×H×W where they are grey")
    options = {"NHWC": (shape[3], shape[1], shape[2]), "NCHW": (shape[1], shape[2], shape[3])}
    possible = [layout for layout in LAYOUTS if options[layout][0] in CHANNELS]
    if said is not None and said not in possible:
        raise UsageError(
            f"--layout {said}: shape {shape} would have {options[said][0]} channels; 1 or 3 are read"
        )
    if not possible:
        raise UsageError(f"has shape {shape}; neither its second nor its last axis has 1 or 3 channels")
    fitting = [layout for layout in possible if options[layout] == wanted]
    layout = said or (fitting or possible)[0]
    if said is None and len(fitting or possible) > 1:
        raise UsageError(f"has shape {shape}, which can be read in two ways; say --layout NHWC or NCHW")
    c, h, w = options[layout]
    if h * w > folder.MAX_PIXELS:
        raise UsageError(f"its images have {w}x{h} pixels; at most {folder.MAX_PIXELS:,} are allowed")
    return layout, (c, h, w)


def _stored(shape: tuple[int, int, int], layout: Layout) -> tuple[int, int, int]:
    """The axes of one image as they lie in the file."""
    c, h, w = shape
    return shape if layout == "NCHW" else (h, w, c)


def wrong_shape(found: tuple[int, int, int], wanted: tuple[int, int, int]) -> str:
    """What to do about images of another shape (C, H, W) than the data's."""
    (c, h, w), (channels, height, width) = found, wanted
    if (h, w) != (height, width):
        return (
            f"its images are {w}x{h}, and the data's {width}x{height}: sample at that size. Nothing is "
            "resized here, since each way of resizing changes the scores"
        )
    kinds = {1: "grey", 3: "in colour"}
    mend = "save one of three equal channels" if channels == 1 else "repeat its channel three times"
    return f"its images are {kinds[c]}, and the data's are {kinds[channels]}: {mend}"


# ------------------------------------------------------------------ numbers


def _check_type(dtype: np.dtype[np.generic], value_range: tuple[float, float] | None) -> None:
    if dtype == np.uint8:
        if value_range is not None:
            raise UsageError("--range: the images are uint8, of which 0 is black and 255 white; leave it out")
        return
    if dtype.kind != "f":
        raise UsageError(f"its numbers are {dtype}; save uint8 (0 to 255), or float and say --range")
    if value_range is None:
        raise UsageError(
            f"its numbers are {dtype}: say what is black and what is white, as in --range 0 1 or --range -1 1"
        )


@dataclass
class _Seen:
    """The smallest and the largest of the numbers that were read."""

    low: float = np.inf
    high: float = -np.inf

    def look(self, numbers: NDArray[np.generic], value_range: tuple[float, float] | None, start: int) -> None:
        """Refuse what is outside the range, and note the rest."""
        values = np.asarray(numbers, dtype=None if value_range is None else np.float64)
        if value_range is not None:
            bad = ~np.isfinite(values)
            if bad.any():
                first = start + int(np.argwhere(bad)[0, 0])
                raise UsageError(f"image {first} has pixels that are not finite")
            low, high = value_range
            slack = (high - low) * 1e-6  # of arithmetic in float32
            outside = (values < low - slack) | (values > high + slack)
            if outside.any():
                first = start + int(np.argwhere(outside)[0, 0])
                raise UsageError(
                    f"--range {low:g} {high:g}: image {first} has others, and numbers go from "
                    f"{values.min():g} to {values.max():g}; say the model's own range, or clip samples to it"
                )
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))

    def notes(self, value_range: tuple[float, float] | None) -> list[str]:
        """What looks like another range than was said."""
        low, high = value_range or (0.0, 255.0)
        if self.high <= low + (high - low) / 100:
            return [
                f"its numbers lie between {self.low:g} and {self.high:g}: nearly black, or of another range"
            ]
        if low < 0 and self.low >= 0:
            return [f"none of its numbers is below 0, and {low:g} is said to be black: check --range"]
        return []


def _to_uint8(numbers: NDArray[np.generic], value_range: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Floats rounded to the nearest of 256 levels, as the harness rounds the samples of its own models."""
    if value_range is None:
        return np.asarray(numbers, dtype=np.uint8)
    low, high = value_range
    levels = (numbers.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(levels).clip(0, 255).astype(np.uint8)


# ------------------------------------------------------------------ labels


def _array_labels(members: dict[str, _Member], how: Reading, n_held: int, n: int) -> NDArray[np.int64] | None:
    if how.labels_key is not None and "" in members:
        raise UsageError(
            f"--labels-key {how.labels_key!r}: an .npy file holds one array; labels need an .npz"
        )
    name = how.labels_key if how.labels_key is not None else "arr_1"
    if how.unlabelled or (how.labels_key is None and name not in members):
        return None
    if name not in members:
        raise UsageError(f"--labels-key: there is no array {name!r} in it{nearest(name, members)}")
    with members[name].open() as file:
        header = _header(file, members[name].size, name)
        if header.dtype.kind not in "iu" or header.shape != (n_held,):
            raise UsageError(
                f"array {name!r} is {header.dtype} {header.shape}; labels are {n_held} whole numbers "
                "from 0, one per image; --unlabelled leaves them out"
            )
        parts = [part.astype(np.int64) for part in _rows(file, header, n_held)]
    labels = np.concatenate(parts)
    if labels.min() < 0:
        raise UsageError(f"array {name!r} has the label {labels.min()}; labels count from 0")
    if gone := sorted(set(labels.tolist()) - set(labels[:n].tolist())):
        raise UsageError(
            f"the first {n:,} of its {n_held:,} images hold none of class {gone[0]}: they are sorted by "
            "class; shuffle images and labels together"
        )
    return labels[:n]
