"""Arrays of images from elsewhere: what is read, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.training.step import to_uint8
from bench.data.arrays import Read, Reading, read_array
from bench.errors import UsageError

COLOUR = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), np.uint8)
"""N×H×W×C."""


def npy(folder: Path, array: Any) -> Path:
    np.save(folder / "samples.npy", array)
    return folder / "samples.npy"


def npz(folder: Path, *arrays: Any, **named: Any) -> Path:
    np.savez_compressed(folder / "samples.npz", *arrays, **named)
    return folder / "samples.npz"


def read(path: Path, *, shape: Any = None, most: int | None = None, **how: Any) -> Read:
    return read_array(path, Reading(**how), shape=shape, most=most)


def test_both_layouts_and_formats_are_the_same_images(tmp_path: Path) -> None:
    planar = COLOUR.transpose(0, 3, 1, 2)
    for array, layout in ((COLOUR, None), (np.ascontiguousarray(planar), None), (COLOUR, "NHWC")):
        for path in (npy(tmp_path, array), npz(tmp_path, array)):
            found = read(path, layout=layout, shape=(3, 6, 5))
            assert (found.images == planar).all()
            assert found.labels is None
            assert not found.notes
    grey = read(npy(tmp_path, COLOUR[..., 0]))
    assert (grey.images == planar[:, :1]).all()


def test_only_the_first_are_read_and_the_rest_is_counted(tmp_path: Path) -> None:
    found = read(npz(tmp_path, COLOUR, np.tile([0, 1], 10)), most=7)
    assert len(found.images) == 7
    assert found.n_held == 20
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_rounded_as_the_harness_rounds_its_own_samples(tmp_path: Path, dtype: Any) -> None:
    signed = np.linspace(-1, 1, 20 * 6 * 5 * 3).reshape(COLOUR.shape).astype(dtype)
    expected = to_uint8(torch.from_numpy(signed.astype(np.float32))).numpy().transpose(0, 3, 1, 2)
    assert (read(npy(tmp_path, signed), value_range=(-1, 1)).images == expected).all()
    levels = (COLOUR / np.float64(255)).astype(dtype)
    assert (read(npy(tmp_path, levels), value_range=(0, 1)).images == COLOUR.transpose(0, 3, 1, 2)).all()


def test_a_named_array_and_named_labels(tmp_path: Path) -> None:
    path = npz(tmp_path, images=COLOUR, classes=np.arange(20, dtype=np.uint8))
    found = read(path, key="images", labels_key="classes")
    assert found.labels is not None
    assert found.labels.tolist() == list(range(20))
    assert read(path, key="images").labels is None
    with pytest.raises(
        UsageError, match=r"no array 'arr_0' in it, but 'images', 'classes'; name one with --key"
    ):
        read(path)
    with pytest.raises(UsageError, match=r"--key 'image': .* did you mean 'images'\?"):
        read(path, key="image")


def test_numbers_that_may_have_another_range_are_pointed_at(tmp_path: Path) -> None:
    assert "nearly black" in read(npy(tmp_path, COLOUR // 128)).notes[0]
    assert "check --range" in read(npy(tmp_path, COLOUR / 255), value_range=(-1, 1)).notes[0]


@pytest.mark.parametrize(
    ("array", "how", "said"),
    [
        (COLOUR / 255, {}, "its numbers are float64: say what is black and what is white, as in --range 0 1"),
        (COLOUR.astype(int), {}, "its numbers are int64; save uint8"),
        (COLOUR, {"value_range": (0, 1)}, "--range: the images are uint8"),
        (
            COLOUR / 127.5 - 1,
            {"value_range": (0, 1)},
            "--range 0 1: image 0 has others, and numbers go from -",
        ),
        (np.where(COLOUR, np.nan, 0), {"value_range": (0, 1)}, "image 0 has pixels that are not finite"),
        (COLOUR[:, :, :, :2], {}, "neither its second nor its last axis has 1 or 3 channels"),
        (COLOUR[:, :3], {}, "can be read in two ways; say --layout NHWC or NCHW"),
        (COLOUR, {"layout": "NCHW"}, "--layout NCHW: shape .* would have 6 channels"),
        (COLOUR[0, 0], {}, "images are N×H×W×C, N×C×H×W"),
        (COLOUR, {"shape": (3, 8, 8)}, "its images are 5x6, and the data's 8x8: sample at that size"),
        (
            COLOUR,
            {"shape": (1, 6, 5)},
            "its images are in colour, and the data's are grey: save one of three",
        ),
        (np.asfortranarray(COLOUR), {}, "lies in Fortran order; save np.ascontiguousarray of it"),
        (np.array([{}, []], object), {}, "holds Python objects, which are not read"),
        (COLOUR, {"key": "x"}, "--key 'x': an .npy file holds one array"),
        (COLOUR, {"labels_key": "x"}, "--labels-key 'x': an .npy file holds one array; labels need an .npz"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, array: Any, how: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        read(npy(tmp_path, array), **how)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            np.zeros(20),
            r"array 'arr_1' is float64 \(20,\); labels are 20 whole numbers from 0, one per image",
        ),
        (np.zeros(19, int), r"is int64 \(19,\); labels are 20"),
        (np.arange(-1, 19), "has the label -1; labels count from 0"),
        (np.arange(20) // 10, "the first 8 of its 20 images hold none of class 1: they are sorted by class"),
    ],
)
def test_labels_that_are_refused(tmp_path: Path, labels: Any, said: str) -> None:
    path = npz(tmp_path, COLOUR, labels)
    with pytest.raises(UsageError, match=said):
        read(path, most=8)
    assert read(path, most=8, unlabelled=True).labels is None


def test_files_that_are_refused(tmp_path: Path) -> None:
    whole = npy(tmp_path, COLOUR).read_bytes()
    zipped = npz(tmp_path, COLOUR).read_bytes()
    (tmp_path / "x.txt").write_bytes(whole)
    for name, data, said in (
        ("cut.npy", whole[:-1], "is damaged: 1,799 bytes of numbers, and uint8"),
        ("cut.npz", zipped[:-9], "is damaged, or not of its format"),
        ("flipped.npz", zipped[:300] + bytes([zipped[300] ^ 255]) + zipped[301:], "is damaged"),
        ("text.npy", b"hello", "is damaged, or not of its format"),
        ("empty.npz", b"", "is damaged, or not of its format"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match=said):
            read(tmp_path / name)
    with pytest.raises(UsageError, match=r"is neither a folder nor one of \.npy, \.npz"):
        read(tmp_path / "x.txt")
    with pytest.raises(UsageError, match="there is no such file or folder"):
        read(tmp_path / "nothing.npy")


def test_a_header_that_promises_too_much_is_believed_by_nobody(tmp_path: Path) -> None:
    """A few bytes may claim to be terabytes: they are refused before memory is asked for."""
    path = tmp_path / "huge.npy"
    with path.open("wb") as file:
        shape = {"descr": "|u1", "fortran_order": False, "shape": (10**9, 64, 64, 3)}
        np.lib.format.write_array_header_1_0(file, shape)
        file.write(b"\0" * 1000)
    with pytest.raises(UsageError, match="is damaged: 1,000 bytes of numbers"):
        read(path, most=10)
