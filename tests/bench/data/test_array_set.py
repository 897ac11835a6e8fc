"""Arrays as data sets, and data of other sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_checks import NOWHERE, well_formed
from image_folders import write
from PIL import Image

from bench.data import datasets
from bench.data.datasets import Dataset
from bench.errors import UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 8, 10, 3), np.uint8)
LABELS = np.arange(60) % 3


def of_array(path: Path, kind: str = "array") -> Dataset:
    return datasets.load(f"{kind}:{path}", data_root=NOWHERE, offline=True)


def saved(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_an_array_is_a_data_set_however_it_lies(tmp_path: Path) -> None:
    named = of_array(saved(tmp_path / "named.npz", images=PIXELS, labels=LABELS))
    well_formed(named)
    assert named.name.startswith("array-")
    assert named.shape == (3, 8, 10)
    assert named.n_classes == 3
    assert [len(named.train), len(named.test)] == [48, 12]
    expected = {image.tobytes() for image in PIXELS.transpose(0, 3, 1, 2)}
    assert {image.tobytes() for part in (named.train, named.test) for image in part.images} == expected
    np.savez(tmp_path / "bare.npz", PIXELS.transpose(0, 3, 1, 2), LABELS + 4)  # numbered from 0 without gaps
    floats = PIXELS.astype(np.float32) / 127.5 - 1
    ranged = saved(tmp_path / "floats.npz", images=floats, labels=LABELS, range=[-1, 1])
    for same in (of_array(tmp_path / "bare.npz"), of_array(ranged)):
        assert (same.name, same.sha256) == (named.name, named.sha256)
    np.save(tmp_path / "grey.npy", PIXELS[..., 0])
    grey = of_array(tmp_path / "grey.npy")
    assert grey.shape == (1, 8, 10)
    assert grey.n_classes == 0


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": PIXELS[:20]}, "20 images in it; at least 46"),
        ({"images": PIXELS / 255}, r"float64: save uint8, or add an array 'range' .* such as \[0, 1\]"),
        ({"images": PIXELS / 255, "range": [1, 0]}, "'range' must hold two numbers, black and white"),
        ({"images": PIXELS / 255, "range": [0, 0.5]}, "array 'range' is 0 0.5: image 0 has others"),
        ({"images": PIXELS, "range": [0, 255]}, "array 'range': the images are uint8"),
        ({"images": PIXELS, "labels": LABELS[:5]}, "labels are 60 whole numbers from 0, one per image$"),
        ({"images": PIXELS[..., :2]}, "1 or 3 channels"),
        ({"pictures": PIXELS}, "no array 'arr_0' in it, but 'pictures'"),
        ({"images": np.array([{}] * 60)}, "holds Python objects, which are not read"),
    ],
)
def test_what_cannot_be_used_is_one_line(arrays: dict[str, object], message: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", **arrays)
    with pytest.raises(UsageError, match=message) as error:
        of_array(path)
    assert str(error.value).startswith(f"--dataset 'array:{path}': ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("array:nowhere.npz", "there is no such file"),
        ("array:", "there is no such file"),
        ("array:text.txt", "is not one of .npy, .npz"),
        ("array@7:a.npz", "the size '7' is not from 8 to 1024"),
        ("folder@x:a", "the size 'x' is not from 8 to 1024"),
        ("arrays:a.npz", "is not a data set; use .*folder:PATH, array:FILE or module:function"),
        ("array:broken.npz", "is damaged"),
    ],
)
def test_wrong_names_are_one_line(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").touch()
    Path("broken.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(UsageError, match=message):
        datasets.load(name, data_root=NOWHERE, offline=True)


def test_images_are_resized_to_squares(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", images=PIXELS)
    assert of_array(path, "array@16").shape == (3, 16, 16)
    assert datasets.with_size(f"array:{path}", 16) == f"array@16:{path}"
    with pytest.raises(UsageError, match="--image-size: 'mnist' has its own size"):
        datasets.with_size("mnist", 16)
    for k in range(50):
        write(tmp_path / "folder", f"{k}.png", size=(8 + k % 3, 12), seed=k)
    with pytest.raises(UsageError, match="all images must be alike; --image-size N resizes them"):
        of_array(tmp_path / "folder", "folder")
    assert of_array(tmp_path / "folder", "folder@8").shape == (1, 8, 8)


def test_the_middle_of_an_image_is_kept(tmp_path: Path) -> None:
    """Nothing is squeezed: what is beside the square is cut off."""
    image = np.zeros((16, 32), np.uint8)
    image[:, 8:24] = 200
    for k in range(46):
        (tmp_path / "wide").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "wide" / f"{k}.png")
    assert (of_array(tmp_path / "wide", "folder@8").train.images == 200).all()


def test_the_path_becomes_absolute_and_keeps_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = datasets.resolve("array@64:a.npz", data_root=NOWHERE, offline=True)
    assert found == (f"array@64:{tmp_path.resolve() / 'a.npz'}", None)
