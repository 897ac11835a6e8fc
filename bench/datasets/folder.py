"""A folder of images as a data set. The files are not trusted."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.errors import UsageError

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's other decoders stay shut; some of them start programs."""
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MIN_IMAGES = 46
"""Of which a fifth, rounded up, is test: the 10 that scores need, since IS is a mean over ten splits."""
MAX_PIXELS = 1024 * 1024
"""Of one image. It is checked before anything is decoded."""


def read_folder(path: str) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Images (N, C, H, W) in the order of their relative paths, and their labels (N,).

    The sub-folders are the classes, in alphabetic order, where each image lies in exactly one
    sub-folder and there are at least two; else the images have no labels. Files whose suffix is not
    an image's are not read. UsageError where an image is broken, is a link or a device, differs from
    the first in size or mode, is neither L nor RGB or has more than ``MAX_PIXELS``, and where there
    are fewer than ``MIN_IMAGES``.
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
        for path in (Path(folder, name) for name in [*folders, *files]):
            name = path.relative_to(root).as_posix()
            if path.is_symlink():
                raise UsageError(f"{name!r} is a symbolic link; put the files themselves there")
            if path.is_dir() or not name.lower().endswith(SUFFIXES):
                continue
            if not path.is_file():  # reading a pipe would never end
                raise UsageError(f"{name!r} is not a regular file")
            yield name


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
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(root / name, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UsageError(
                        f"{name!r} has {width}x{height} pixels; at most {MAX_PIXELS:,} are allowed"
                    )
                if image.mode not in ("L", "RGB"):
                    raise UsageError(f"{name!r} has mode {image.mode}; convert it to L (grey) or RGB")
                image.verify()  # the checksums, where the format has them
            with Image.open(root / name, formats=FORMATS) as image:
                pixels = np.asarray(image)
    except UsageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UsageError(f"{name!r} has too many pixels: {error}") from error
    except Exception as error:  # decoders raise whatever comes to their mind
        raise UsageError(f"{name!r} is a broken image: {error}") from error
    return pixels.reshape(height, width, -1).transpose(2, 0, 1)


def _labels(names: list[str]) -> NDArray[np.int64] | None:
    folders = [name.split("/")[:-1] for name in names]
    if any(len(parts) != 1 for parts in folders):
        return None
    classes, labels = np.unique([parts[0] for parts in folders], return_inverse=True)
    return labels.astype(np.int64) if len(classes) > 1 else None
