"""A folder of images as a data set.

The files may come from anywhere. So nothing in them is executed, only a few decoders read them, and sizes are
checked before anything is decoded.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.data.resizing import square
from bench.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that are read. Pillow's other decoders are not used: some of them start programs."""
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MIN_IMAGES = 46
"""A fifth of them, rounded up, is the test split. Scores need 10 images there: IS is a mean over ten
splits."""
MAX_PIXELS = 1024 * 1024
"""The most pixels of one image."""
PIXEL_BYTES = 6
"""The most bytes of a pixel that is not compressed: three colours of 16 bits."""
MAX_EXTRA = 2**20
"""The most bytes of a file beside its pixels: comments, colour profiles, thumbnails."""
ORIENTATION = 0x0112
"""The EXIF tag that says how an image is to be turned. 1 to 8 are defined; 0 is common, and means nothing."""


def read_folder(path: str, side: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Images (N, C, H, W) in the order of their relative paths, and their labels (N,).

    Where each image lies in one sub-folder of ``path``, and there are at least two of them, the sub-folders
    are the classes, in alphabetic order. Otherwise the images have no labels. With ``side``, each image
    becomes a square of so many pixels in each direction, so sizes may differ. Files with other suffixes than
    ``SUFFIXES`` are ignored, and so are hidden files and folders, whose names begin with a dot. Images are
    turned as their EXIF orientation says.

    Raises: UsageError: there are fewer than ``MIN_IMAGES`` images; or one is damaged, is a link or a device,
        has another size or mode than the first, is neither L nor RGB, has transparent pixels, several pages
        or frames, an EXIF orientation that cannot be read, more than ``MAX_PIXELS`` pixels, or more than
        ``MAX_EXTRA`` bytes beside them. The message names the file.
    """
    root = Path(path)
    if not path or not root.is_dir():
        raise UsageError("there is no such folder")
    found = names(root)
    if len(found) < MIN_IMAGES:
        raise UsageError(
            f"{len(found)} images ({' '.join(SUFFIXES)}) in it; at least {MIN_IMAGES} are needed"
        )
    return _images(root, found, side), labels(found)


def names(root: Path) -> list[str]:
    """The paths of the images, relative to ``root``, with slashes, in order.

    Raises:
        UsageError: one is a link or no regular file.
    """
    return sorted(_names(root))


def _names(root: Path) -> Iterator[str]:
    def stop(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(root, onerror=stop):
        folders[:] = filter(_is_shown, folders)  # os.walk does not enter the others
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


def _images(root: Path, names: list[str], side: int | None) -> NDArray[np.uint8]:
    def read(name: str) -> NDArray[np.uint8]:
        image = read_image(root, name)
        return image if side is None else square(image, side)

    first = read(names[0])
    images = np.empty((len(names), *first.shape), np.uint8)
    for i, name in enumerate(names):
        image = read(name)
        if image.shape != first.shape:
            raise UsageError(
                f"{name!r} is {_kind(image)}, but {names[0]!r} is {_kind(first)}; all images must be alike"
                f"{'' if image.shape[0] != first.shape[0] else '; --image-size N resizes them'}"
            )
        images[i] = image
    return images


def _kind(image: NDArray[np.uint8]) -> str:
    c, h, w = image.shape
    return f"{w}x{h} {'L' if c == 1 else 'RGB'}"


def read_image(root: Path, name: str) -> NDArray[np.uint8]:
    """One image (C, H, W).

    Raises:
        UsageError: it is damaged or cannot be used; names the file.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    file = _bytes(root, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they do not name the file; what matters is looked at here
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                if problem := _problem(image, len(file.getbuffer())):
                    raise UsageError(f"{name!r} {problem}")
                image.verify()  # checks the checksums, in formats that have them
            with Image.open(file, formats=FORMATS) as image:
                if not _has_orientation(image):
                    raise UsageError(
                        f"{name!r} has an EXIF orientation that cannot be read; save it without EXIF data"
                    )
                pixels = np.asarray(ImageOps.exif_transpose(image))
    except UsageError:
        raise
    except UnidentifiedImageError as error:
        raise UsageError(
            f"{name!r} is damaged, or has a format that is not read; {', '.join(FORMATS)} are read"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UsageError(f"{name!r} has too many pixels: {error}") from error
    except Exception as error:  # a decoder can raise anything
        raise UsageError(f"{name!r} is a broken image: {error}") from error
    return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)


def _bytes(root: Path, name: str) -> io.BytesIO:
    """The whole file, unless it is larger than any image that is allowed."""
    most = MAX_PIXELS * PIXEL_BYTES + MAX_EXTRA
    with (root / name).open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise UsageError(f"{name!r} is larger than {most:,} bytes, more than any image that is allowed")
    return io.BytesIO(data)


def _problem(image: Image.Image, n_bytes: int) -> str | None:
    """Why an image is refused; ``None`` where nothing is wrong. Its pixels are not decoded yet."""
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


def _has_orientation(image: Image.Image) -> bool:
    """Whether the EXIF data say how to turn the image, or say nothing about it. Damaged data do neither."""
    from PIL import Image

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            if "exif" not in image.info:
                return image.getexif().get(ORIENTATION, 0) in range(9)
            exif = Image.Exif()  # image.getexif() would hide some damage
            exif.load(image.info["exif"])
            found = exif.get(ORIENTATION)
        except Exception:  # a decoder can raise anything
            return False
    return not warned if found is None else found in range(9)


def labels(names: list[str]) -> NDArray[np.int64] | None:
    """The labels (N,) of images at these paths, if sub-folders are classes: see :func:`read_folder`."""
    folders = [name.split("/")[:-1] for name in names]
    if any(len(parts) != 1 for parts in folders):
        return None
    classes, found = np.unique([parts[0] for parts in folders], return_inverse=True)
    return found.astype(np.int64) if len(classes) > 1 else None
