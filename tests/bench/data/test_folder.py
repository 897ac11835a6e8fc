"""Folders of images, friendly and hostile."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import SMALL, records
from data_checks import NOWHERE, flip, parts, refused, targets, well_formed, within
from image_folders import folder_images, of_folder, png, write
from PIL import Image

from baselines.gan import DataSpec
from bench import plan as planning
from bench import run
from bench.data import datasets, folder
from bench.data.datasets import load
from bench.errors import UsageError
from bench.plan import RunContext, Spec, plan
from bench.scoring import fitting, metrics
from bench.scoring.features import Features


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
    first = folder.read_image(pictures, "00.png")
    endless = np.broadcast_to(first, (2**50, *first.shape[1:]))
    monkeypatch.setattr(folder, "read_image", lambda root, name: endless)
    assert "cannot be read: Unable to allocate" in refused(f"folder:{pictures}", NOWHERE)


# ---------------------------------------------------------------- in a plan


def test_a_dry_run_on_a_folder_with_classes_trains_no_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(folder.MIN_IMAGES):
        write(tmp_path, f"pictures/{'ab'[k % 2]}/{k}.png", size=(8, 8), seed=k)
    monkeypatch.chdir(tmp_path)
    words = ["--models", "vanilla", "--dataset", "folder:pictures", "--seeds", "1", "--device", "cpu"]
    assert run.main([*words, "--dry-run"]) == 0
    said, batch, first, second, _ = capsys.readouterr().out.splitlines()[-5:]
    name = of_folder(tmp_path / "pictures").name
    assert said == f"--dataset 'folder:{tmp_path}/pictures': its images are called {name}"
    assert batch.startswith("vanilla: a batch of 128 is larger than the training split")
    assert first.startswith(f"a classifier of {name} would be trained first")
    assert second.startswith(f"compute  vanilla      {name} seed 0")
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


@pytest.mark.slow
def test_the_same_images_at_two_paths_are_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(100):
        write(tmp_path, f"here/{'ab'[k % 2]}/{k}.png", size=(8, 8), seed=k)
    shutil.copytree(tmp_path / "here", tmp_path / "some" / "where else")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fitting, "MOST_STEPS", 2)
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
    monkeypatch.setattr(planning, "build_protocol", lambda *_, **__: {"extractors": {}})
    twice = Spec(["vanilla"], ["folder:.", f"folder:{pictures}"], [0])
    with pytest.raises(
        UsageError, match=r"--dataset: 'folder:/.*pictures' is 'folder-.*', which is named already"
    ):
        plan(twice, RunContext())
