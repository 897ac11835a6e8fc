"""A folder of images as a data set. The files are not trusted."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's other decoders stay shut; some of them start programs."""
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MIN_IMAGES = 46
"""Of which a fifth, rounded up, is test: the 10 that scores need, since IS is a mean over ten splits."""
MAX_PIXELS = 1024 * 1024
"""Of one image. It is checked before anything is decoded."""
PIXEL_BYTES = 6
"""Of a pixel that is not compressed, at most: three colours of 16 bits."""
MAX_EXTRA = 2**20
"""Bytes of a file beyond its pixels: comments, colour profiles, thumbnails."""


def read_folder(path: str) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Images (N, C, H, W) in the order of their relative paths, and their labels (N,).

    The sub-folders are the classes, in alphabetic order, where each image lies in exactly one
    sub-folder and there are at least two; else the images have no labels. Files whose suffix is not
    an image's are not read, nor what is hidden: files and folders whose name begins with a dot. Images are
    turned as their EXIF orientation says. UsageError where an image is broken, is a link or a device,
    differs from the first in size or mode, is neither L nor RGB, has transparent pixels, several pages or
    frames, more than ``MAX_PIXELS`` or more than ``MAX_EXTRA`` beside them, and where there are fewer than
    ``MIN_IMAGES``.
    """
    root = Path(path)
    if not path or not root.is_dir():
        raise UsageError("there is no such folder")
    names = sorted(_names(root))
    if len(names) < MIN_IMAGES:
        raise UsageError(
            f"{len(names)} images ({' '.join(SUFFIXES)}) in it; at least {MIN_IMAGES} are needed"
        )
    return _images(root, names), _labels(names)


def _names(root: Path) -> Iterator[str]:
    """The images' paths below root, with slashes."""

    def stop(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(root, onerror=stop):
        folders[:] = filter(_is_shown, folders)  # the others are not walked into
        for path in (Path(folder, name) for name in [*folders, *filter(_is_shown, files)]):
            name = path.relative_to(root).as_posix()
            if path.is_symlink():
                raise UsageError(f"{name!r} is a symbolic link; put the files themselves there")
            if path.is_dir() or not name.lower().endswith(SUFFIXES):
                continue
            if not path.is_file():  # reading a pipe would never end
                raise UsageError(f"{name!r} is not a regular file")
            yield name


def _is_shown(name: str) -> bool:
    return not name.startswith(".")


def _images(root: Path, names: list[str]) -> NDArray[np.uint8]:
    first = _image(root, names[0])
    images = np.empty((len(names), *first.shape), np.uint8)
    for i, name in enumerate(names):
        image = _image(root, name)
        if image.shape != first.shape:
            raise UsageError(
                f"{name!r} is {_kind(image)}, but {names[0]!r} is {_kind(first)}; all images must be alike"
            )
        images[i] = image
    return images


def _kind(image: NDArray[np.uint8]) -> str:
    c, h, w = image.shape
    return f"{w}x{h} {'L' if c == 1 else 'RGB'}"


def _image(root: Path, name: str) -> NDArray[np.uint8]:
    """One image (C, H, W)."""
    from PIL import Image, ImageOps

    file = _bytes(root, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                if problem := _problem(image, len(file.getbuffer())):
                    raise UsageError(f"{name!r} {problem}")
                image.verify()  # the checksums, where the format has them
            with Image.open(file, formats=FORMATS) as image:
                pixels = np.asarray(ImageOps.exif_transpose(image))
    except UsageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UsageError(f"{name!r} has too many pixels: {error}") from error
    except Exception as error:  # decoders raise whatever comes to their mind
        raise UsageError(f"{name!r} is a broken image: {error}") from error
    return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)


def _bytes(root: Path, name: str) -> io.BytesIO:
    """The whole file, if that is not too large for any image."""
    most = MAX_PIXELS * PIXEL_BYTES + MAX_EXTRA
    with (root / name).open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise UsageError(f"{name!r} is larger than {most:,} bytes, more than any image that is allowed")
    return io.BytesIO(data)


def _problem(image: Image.Image, n_bytes: int) -> str | None:
    """Why an image is refused that is not decoded yet."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        return f"has {width}x{height} pixels; at most {MAX_PIXELS:,} are allowed"
    if image.mode not in ("L", "RGB"):
        return f"has mode {image.mode}; convert it to L (grey) or RGB"
    if "transparency" in image.info:
        return "has transparent pixels; put it on a background of your choice"
    if n_bytes > width * height * PIXEL_BYTES + MAX_EXTRA:
        return f"holds more than {MAX_EXTRA:,} bytes beside its pixels; remove comments and profiles"
    try:
        image.seek(1)
    except EOFError:
        return None
    return "has several pages or frames; keep one"


def _labels(names: list[str]) -> NDArray[np.int64] | None:
    folders = [name.split("/")[:-1] for name in names]
    if any(len(parts) != 1 for parts in folders):
        return None
    classes, labels = np.unique([parts[0] for parts in folders], return_inverse=True)
    return labels.astype(np.int64) if len(classes) > 1 else None
