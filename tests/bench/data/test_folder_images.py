"""What the images of a folder may carry: orientations, transparency, pages, comments."""

from __future__ import annotations

import io
import os
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_checks import NOWHERE, refused, within
from image_folders import chunk, folder_images, of_folder, of_noise, png, write
from PIL import Image

from baselines.gan import DataSpec
from bench.data import folder


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_pictures_are_turned_as_their_exif_says(tmp_path: Path, orientation: int, suffix: str) -> None:
    """A camera that is held upright saves what its sensor sees, and how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    mode = "RGB" if suffix == "webp" else "L"
    tall = orientation > 4
    options: dict[str, Any] = {"exif": exif} | ({"lossless": True} if suffix == "webp" else {})
    for k in range(folder.MIN_IMAGES):
        image = of_noise((5, 6) if tall else (6, 5), mode, k)
        image.save(tmp_path / f"{k:02d}.{suffix}", **options)
    dataset = of_folder(tmp_path)
    assert dataset.spec == DataSpec(len(mode), 5, 6)
    first = tmp_path / "00.jpg"  # whose pixels are not quite those that were saved
    saved = np.asarray(Image.open(first) if first.exists() else of_noise((5, 6) if tall else (6, 5), mode))
    turned = {
        1: saved,
        2: saved[:, ::-1],
        3: saved[::-1, ::-1],
        4: saved[::-1],
        5: saved.swapaxes(0, 1),
        6: saved.swapaxes(0, 1)[:, ::-1],  # a quarter turn clockwise: its first column becomes the top row
        7: saved.swapaxes(0, 1)[::-1, ::-1],
        8: saved.swapaxes(0, 1)[::-1],
    }[orientation]
    everything = folder_images(tmp_path)
    assert (everything.images[0] == turned.reshape(5, 6, -1).transpose(2, 0, 1)).all()


def test_a_turned_picture_among_others_is_of_another_size(pictures: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    of_noise().save(pictures / "x.jpg", exif=exif)
    assert "'x.jpg' is 5x6 L, but '00.png' is 6x5 L" in refused(f"folder:{pictures}", NOWHERE)


def exif(kind: int = 3, value: bytes = b"\0\6\0\0", n: int = 1) -> bytes:
    """EXIF data with one entry, the orientation: ``n`` values of a kind (3: short, 2: text)."""
    entry = struct.pack(">HHI", 0x0112, kind, n) + value
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)


DAMAGED_EXIF = {
    "cut": exif()[:-10],
    "without entries": exif()[:-16],
    "offset": b"Exif\0\0II*\0\xff\xff\0\0",
    "header": b"Exif\0\0" + b"\xff" * 30,
    "text": exif(2, b"six\0", 4),
    "fraction": exif(5),
    "nine": exif(3, b"\0\11\0\0"),
}


@pytest.mark.parametrize("damage", DAMAGED_EXIF)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_an_orientation_that_cannot_be_read_is_refused_by_name(
    pictures: Path, damage: str, suffix: str
) -> None:
    of_noise().save(pictures / f"x.{suffix}", exif=DAMAGED_EXIF[damage])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        line = refused(f"folder:{pictures}", NOWHERE)
    assert f"'x.{suffix}' has an EXIF orientation that cannot be read; save it without EXIF data" in line


def test_an_orientation_of_zero_and_damage_to_other_entries_mean_nothing(pictures: Path) -> None:
    """Both are common."""
    of_noise().save(pictures / "x.jpg", exif=exif(3, bytes(4)))
    entries = struct.pack(">HHIHH", 0x0112, 3, 1, 1, 0) + struct.pack(">HHII", 0x013B, 2, 40, 4000)
    beyond = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + entries + bytes(4)  # an artist past the end
    of_noise().save(pictures / "y.jpg", exif=beyond)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(folder_images(pictures)) == 52


@pytest.mark.parametrize(("mode", "colour"), [("L", 7), ("RGB", (1, 2, 3))])
def test_a_transparent_colour_is_refused(pictures: Path, mode: str, colour: Any) -> None:
    of_noise(mode=mode).save(pictures / "x.png", transparency=colour)
    assert "'x.png' has transparent pixels; " in refused(f"folder:{pictures}", NOWHERE)


@pytest.mark.parametrize("suffix", ["tif", "png", "webp", "jpg"])
def test_several_pages_or_frames_are_refused(pictures: Path, suffix: str) -> None:
    """Pages of a TIFF, frames of an animated PNG or WebP, a camera's MPO, which is named like a JPEG."""
    first, second = of_noise(mode="RGB", seed=1), of_noise(mode="RGB", seed=2)
    kind = {"jpg": "MPO", "tif": "TIFF"}.get(suffix, suffix.upper())
    first.save(pictures / f"x.{suffix}", kind, save_all=True, append_images=[second])
    assert f"'x.{suffix}' has several pages or frames; keep one" in refused(f"folder:{pictures}", NOWHERE)


@pytest.mark.parametrize("name", [".git", ".thumbs", "a/.thumbnails"])
def test_what_is_hidden_is_no_class_and_no_image(tmp_path: Path, name: str) -> None:
    for k in range(folder.MIN_IMAGES):
        write(tmp_path, f"{'ab'[k % 2]}/{k}.png", seed=k)
    before = of_folder(tmp_path)
    assert before.n_classes == 2
    write(tmp_path, f"{name}/preview.png", "RGB", (3, 3))
    (tmp_path / name / "broken.png").write_bytes(b"")
    (tmp_path / name / "link.png").symlink_to("/etc/hostname")
    (tmp_path / ".link").symlink_to("/")
    (tmp_path / "a" / "._0.png").write_bytes(b"\x00\x05\x16\x07")  # macOS puts such beside files it copies
    os.mkfifo(tmp_path / "b" / ".pipe.png")
    after = of_folder(tmp_path)
    assert (after.sha256, after.n_classes) == (before.sha256, 2)


def test_a_folder_that_is_hidden_itself_is_read(pictures: Path) -> None:
    hidden = pictures.rename(pictures.with_name(".pictures"))
    assert len(of_folder(hidden).train) == 40


def jpeg_with_comments(n: int) -> bytes:
    file = io.BytesIO()
    of_noise().save(file, "JPEG")
    data = file.getvalue()
    comment = b"\xff\xfe" + struct.pack(">H", 65_002) + bytes(65_000)
    return data[:2] + n * comment + data[2:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.png", lambda: png(6, 5, chunk(b"tEXt", b"Comment\0" + b"x" * 2_000_000)), "beside its pixels"),
        ("x.png", lambda: png(6, 5, chunk(b"tEXt", b"Comment\0" + b"x" * 50_000_000)), "is larger than"),
        ("x.png", lambda: png(6, 5) + b"x" * 2_000_000, "beside its pixels"),
        ("x.jpg", lambda: jpeg_with_comments(20), "beside its pixels"),
        ("x.jpg", lambda: jpeg_with_comments(2000), "is larger than"),
    ],
    ids=["text", "huge-text", "behind", "comments", "many-comments"],
)
def test_oversized_comments_are_refused(pictures: Path, name: str, content: Any, says: str) -> None:
    (pictures / name).write_bytes(content())
    with within(20):
        line = refused(f"folder:{pictures}", NOWHERE)
    assert f"{name!r} " in line
    assert says in line


def test_usual_comments_and_large_noise_are_read(pictures: Path, tmp_path: Path) -> None:
    (pictures / "x.png").write_bytes(png(6, 5, chunk(b"tEXt", b"Comment\0" + b"x" * 500_000)))
    (pictures / "y.jpg").write_bytes(jpeg_with_comments(5))
    assert len(folder_images(pictures)) == 52
    for suffix, options in (("png", {}), ("jpg", {"quality": 100, "subsampling": 0}), ("bmp", {})):
        of_noise((1024, 1024), "RGB").save(tmp_path / f"large.{suffix}", **options)
        assert folder.read_image(tmp_path, f"large.{suffix}").shape == (3, 1024, 1024)
