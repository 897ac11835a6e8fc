"""Folders of images, friendly and hostile."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import struct
import warnings
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import SMALL, records
from data_checks import NOWHERE, flip, parts, refused, targets, well_formed, within
from PIL import Image

from baselines.gan import DataSpec
from bench import plan as planning
from bench import run
from bench.data import datasets, folder
from bench.data.datasets import Dataset, Images, load
from bench.errors import UsageError
from bench.plan import Place, Spec, plan
from bench.scoring import classifier, metrics
from bench.scoring.features import Features


def write(root: Path, name: str, mode: str = "L", size: tuple[int, int] = (6, 5), seed: int = 0) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = () if mode in ("L", "1") else (len(mode),)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Fifty grey images without classes."""
    root = tmp_path / "pictures"
    for k in range(50):
        write(root, f"{k:02d}.png", seed=k)
    return root


def of_folder(root: Path, **options: bool) -> Dataset:
    return load(f"folder:{root}", data_root=NOWHERE, offline=True, **options)


def folder_images(root: Path) -> Images:
    return Images(*folder.read_folder(str(root)))


def test_a_folder_without_classes(pictures: Path) -> None:
    (pictures / "README.txt").write_text("not an image")
    dataset = of_folder(pictures, holdout=True)
    well_formed(dataset)
    assert dataset.name == f"folder-{datasets._sha256(all=folder_images(pictures))[:8]}"
    assert [len(part) for part in parts(dataset)] == [30, 10, 10]
    assert dataset.spec == DataSpec(1, 5, 6, n_classes=0)
    expected = {np.asarray(Image.open(path)).tobytes() for path in pictures.glob("*.png")}
    assert {image.tobytes() for part in parts(dataset) for image in part.images} == expected


def test_a_folder_with_classes(tmp_path: Path) -> None:
    suffixes = ("png", "bmp", "PPM", "tif")
    for label, name in enumerate(("ant", "bee", "cat")):
        for k in range(20):
            write(tmp_path, f"{name}/{k}.{suffixes[k % 4]}", "RGB", seed=20 * label + k)
    dataset = of_folder(tmp_path)
    well_formed(dataset)
    assert dataset.n_classes == 3
    assert dataset.shape == (3, 5, 6)
    assert np.bincount(targets(dataset.test)).tolist() == [4, 4, 4]
    for image, label in zip(dataset.test.images, targets(dataset.test), strict=True):
        folder = tmp_path / ("ant", "bee", "cat")[label]
        assert any(
            (np.asarray(Image.open(path)) == image.transpose(1, 2, 0)).all() for path in folder.iterdir()
        )


@pytest.mark.parametrize("stray", ["loose.png", "deep/er/image.png"])
def test_classes_need_every_image_in_one_subfolder(tmp_path: Path, stray: str) -> None:
    for k in range(folder.MIN_IMAGES):
        write(tmp_path, f"{'ab'[k % 2]}/{k}.png", seed=k)
    assert of_folder(tmp_path).n_classes == 2
    write(tmp_path, stray)
    assert of_folder(tmp_path).n_classes == 0


def test_one_subfolder_is_no_class(pictures: Path) -> None:
    assert of_folder(pictures.parent).n_classes == 0


def test_a_copy_of_a_folder_is_the_same_data_and_a_changed_pixel_is_not(
    pictures: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(pictures, copy)
    assert of_folder(copy).sha256 == of_folder(pictures).sha256
    assert of_folder(copy).name == of_folder(pictures, holdout=True).name
    pixels = np.asarray(Image.open(copy / "07.png")).copy()
    pixels[2, 2] ^= 1
    Image.fromarray(pixels).save(copy / "07.png")
    assert of_folder(copy).sha256 != of_folder(pictures).sha256
    assert of_folder(copy).name != of_folder(pictures).name


def test_a_folder_has_one_name_however_it_is_spelled(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("pictures")
    for path in ("pictures", "./pictures", "pictures/", "x/../pictures", "link", str(pictures)):
        name, _ = datasets.resolve(f"folder:{path}", data_root=NOWHERE, offline=True)
        assert name == f"folder:{pictures}"


def test_a_folder_is_not_asked_for_by_what_records_call_it(pictures: Path) -> None:
    name = of_folder(pictures).name
    with pytest.raises(UsageError, match=f"'{name}' is not a data set; .*; a folder is named by its path"):
        load(name, data_root=NOWHERE)


def test_at_most_ten_thousand_are_test(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert datasets.MAX_TEST == 10_000
    monkeypatch.setattr(datasets, "MAX_TEST", 4)
    assert len(of_folder(pictures).test) == 4


def png(width: int, height: int, chunks: bytes = b"") -> bytes:
    """A PNG whose pixels are all zero, and that packs them as tightly as it can."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunks + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A PNG of the right size with a text that unpacks to 80 MB."""
    data = b"Comment\0\0" + zlib.compress(bytes(80_000_000), 1)
    return png(
        6, 5, struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    )


UNREADABLE = "is damaged, or has a format that is not read; BMP, JPEG, PNG, PPM, TIFF, WEBP are read"


def gif() -> bytes:
    """A sound image, for a decoder that is not used."""
    file = io.BytesIO()
    Image.new("L", (6, 5)).save(file, "GIF")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", UNREADABLE),
        (b"not an image at all", UNREADABLE),
        (gif(), UNREADABLE),
        (png(6, 5)[:-30], UNREADABLE),
        (flip(png(6, 5)), "is a broken image"),
        (text_bomb(), "is a broken image"),
        (png(1025, 1024), "has 1025x1024 pixels; at most 1,048,576 are allowed"),
        (png(10_000, 10_000), "has too many pixels"),
        (png(20_000, 20_000), "has too many pixels"),
        (png(5, 6), "is 5x6 L, but '00.png' is 6x5 L; all images must be alike"),
    ],
    ids=[
        "empty",
        "text",
        "other-decoder",
        "cut",
        "flipped",
        "text-bomb",
        "large",
        "bomb",
        "huge-bomb",
        "size",
    ],
)
def test_bad_images_are_refused_by_name(pictures: Path, content: bytes, says: str) -> None:
    (pictures / "17.png").write_bytes(content)
    with within(20):
        assert f"'17.png' {says}" in refused(f"folder:{pictures}", NOWHERE)


def test_a_cut_jpeg_is_refused(pictures: Path) -> None:
    file = write(pictures, "x.jpg")
    file.write_bytes(file.read_bytes()[:-40])
    assert "'x.jpg' is a broken image" in refused(f"folder:{pictures}", NOWHERE)


@pytest.mark.parametrize("mode", ["RGBA", "1", "CMYK"])
def test_other_modes_are_refused(pictures: Path, mode: str) -> None:
    write(pictures, "x.tif", mode)
    assert f"'x.tif' has mode {mode}; convert it to L (grey) or RGB" in refused(f"folder:{pictures}", NOWHERE)


def test_mixed_modes_are_refused(pictures: Path) -> None:
    write(pictures, "x.png", "RGB")
    assert "'x.png' is 6x5 RGB, but '00.png' is 6x5 L" in refused(f"folder:{pictures}", NOWHERE)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("loop", "."),
        ("self", "self"),
        ("out", "/"),
        ("17.png", "16.png"),
        ("x.png", "/etc/hostname"),
        ("gone.png", "nothing"),
    ],
)
def test_links_are_refused_by_name(pictures: Path, link: str, target: str) -> None:
    (pictures / link).unlink(missing_ok=True)
    (pictures / link).symlink_to(target)
    with within(20):
        assert f"'{link}' is a symbolic link" in refused(f"folder:{pictures}", NOWHERE)


def test_a_pipe_is_refused_and_not_waited_for(pictures: Path) -> None:
    os.mkfifo(pictures / "pipe.png")
    assert "'pipe.png' is not a regular file" in refused(f"folder:{pictures}", NOWHERE)


def test_a_subfolder_that_cannot_be_read_is_not_passed_over(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = write(pictures, "locked/x.png").parent
    scan = os.scandir

    def scandir(path: str) -> Any:
        if Path(path) == locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    line = refused(f"folder:{pictures}", NOWHERE)
    assert "Permission denied" in line
    assert str(locked) in line


def test_strange_names_stay_in_one_line(pictures: Path) -> None:
    (pictures / "a\nb.png").write_bytes(b"broken")
    assert r"'a\nb.png' is damaged, or has a format" in refused(f"folder:{pictures}", NOWHERE)
    assert "there is no such folder" in refused("folder:no\nwhere\0", NOWHERE)


def test_too_few_images_are_refused(pictures: Path) -> None:
    for k in range(folder.MIN_IMAGES, 50):
        (pictures / f"{k}.png").unlink()
    assert [len(part) for part in parts(of_folder(pictures, holdout=True))] == [26, 10, 10]
    (pictures / "00.png").unlink()
    assert "45 images" in refused(f"folder:{pictures}", NOWHERE)
    assert "at least 46 are needed" in refused(f"folder:{pictures}", NOWHERE)


def test_the_smallest_folder_can_be_scored(pictures: Path, tmp_path: Path) -> None:
    for k in range(folder.MIN_IMAGES, 50):
        (pictures / f"{k}.png").unlink()
    test = torch.from_numpy(of_folder(pictures).test.images).flatten(1).float()
    metrics.score(Features(test, test), Features(255 - test, test), seed=0)  # ScoreError: too few


def test_folders_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    assert "0 images" in refused(f"folder:{tmp_path / 'empty'}", NOWHERE)
    for name in ("missing", "loop", "file", "file/below"):
        assert "there is no such folder" in refused(f"folder:{tmp_path / name}", NOWHERE)
    assert "there is no such folder" in refused("folder:", NOWHERE)


def test_images_that_do_not_fit_into_memory(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = folder._image(pictures, "00.png")
    endless = np.broadcast_to(first, (2**50, *first.shape[1:]))
    monkeypatch.setattr(folder, "_image", lambda root, name: endless)
    assert "cannot be read: Unable to allocate" in refused(f"folder:{pictures}", NOWHERE)


# ---------------------------------------------------------------- what a picture may carry


def of_noise(size: tuple[int, int] = (6, 5), mode: str = "L", seed: int = 0) -> Image.Image:
    channels = () if mode == "L" else (len(mode),)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), np.uint8)
    return Image.fromarray(pixels)


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


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg_with_comments(n: int) -> bytes:
    file = io.BytesIO()
    of_noise().save(file, "JPEG")
    data = file.getvalue()
    comment = b"\xff\xfe" + struct.pack(">H", 65_002) + bytes(65_000)
    return data[:2] + n * comment + data[2:]


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
        assert folder._image(tmp_path, f"large.{suffix}").shape == (3, 1024, 1024)


# ---------------------------------------------------------------- in a plan


def test_a_dry_run_on_a_folder_with_classes_trains_no_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(folder.MIN_IMAGES):
        write(tmp_path, f"pictures/{'ab'[k % 2]}/{k}.png", size=(8, 8), seed=k)
    monkeypatch.chdir(tmp_path)
    words = ["--models", "vanilla", "--dataset", "folder:pictures", "--seeds", "1", "--device", "cpu"]
    assert run.main([*words, "--dry-run"]) == 0
    said, first, second, _ = capsys.readouterr().out.splitlines()
    name = of_folder(tmp_path / "pictures").name
    assert said == f"--dataset 'folder:{tmp_path}/pictures': its images are called {name}"
    assert first.startswith(f"a classifier of {name} would be trained first")
    assert second.startswith(f"compute  vanilla      {name} seed 0")
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_the_same_images_at_two_paths_are_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(100):
        write(tmp_path, f"here/{'ab'[k % 2]}/{k}.png", size=(8, 8), seed=k)
    shutil.copytree(tmp_path / "here", tmp_path / "some" / "where else")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(classifier, "train", partial(classifier.train, steps=2))
    small = [word for word in SMALL if word not in ("--dataset", "digits")]
    words = [*small, "--steps", "2", "--seeds", "1", "--workers", "0", "--draws", "1"]
    for path, says in (("here", "0 reused, 1 to compute"), ("some/where else", "1 reused, 0 to compute")):
        assert run.main([*words, "--dataset", f"folder:{path}"]) == 0
        assert f"1 run, {says}" in capsys.readouterr().out
    (record,) = records(tmp_path)
    assert record["dataset"] == record["protocol"]["dataset"]["name"] == of_folder(tmp_path / "here").name
    assert record["environment"].pop("source") == f"folder:{tmp_path / 'here'}"
    assert str(tmp_path) not in json.dumps(record), "beside the environment, nothing says where"


def test_one_folder_cannot_be_named_twice(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures)
    monkeypatch.setattr(planning, "agree", lambda *_, **__: {"extractors": {}})
    twice = Spec(["vanilla"], ["folder:.", f"folder:{pictures}"], [0])
    with pytest.raises(
        UsageError, match=r"--dataset: 'folder:/.*pictures' is 'folder-.*', which is named already"
    ):
        plan(twice, Place())
