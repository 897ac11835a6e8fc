"""Sample grids side by side and along training."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import fake_runs
import matplotlib.image
import numpy as np
import pytest
import torch
from drawn import filmstrip, grids, group_of

from bench.scoring import pictures
from reports.figures import samples
from reports.groups import Group


@pytest.mark.slow
def test_grids_show_each_models_first_seed_with_a_picture(group: Group, tmp_path: Path) -> None:
    figure = grids(group)
    assert figure is not None
    assert [ax.get_title() for ax in figure.axes if ax.images] == list(group.summary["label"])
    folders = [fake_runs.run(tmp_path, seed=seed) for seed in range(2)]
    (folders[0] / "samples.png").write_bytes(b"not a picture")
    figure = grids(group_of(tmp_path))
    assert figure is not None
    shown = figure.axes[0].images[0].get_array()
    expected = matplotlib.image.imread(folders[1] / "samples.png")
    assert shown is not None
    assert np.asarray(shown)[..., 0] / 255 == pytest.approx(expected)


def test_a_filmstrip_needs_two_frames(group: Group, tmp_path: Path) -> None:
    figure = filmstrip(group)
    assert figure is not None
    first = figure.axes[0]
    assert first.get_title(loc="left") == group.summary["label"][0]
    assert [tick.get_text() for tick in first.get_xticklabels()] == [f"step {k}00" for k in (1, 2, 3, 4)]
    strip = first.images[0].get_array()
    assert strip is not None
    frames = np.array_split(np.asarray(strip)[:, : strip.shape[1] // 4 * 4], 4, axis=1)
    assert all(not np.array_equal(a, b) for a, b in pairwise(frames))
    fake_runs.run(tmp_path, n_evals=1)
    assert filmstrip(group_of(tmp_path)) is None


def test_frames_are_equally_far_apart_and_end_with_the_last(twelve: Group, group: Group) -> None:
    for some, steps in ((twelve, (40, 160, 280, 400)), (group, (100, 200, 300, 400))):
        for _, frames in samples.first_frames(some).values():
            assert [name for name, _ in frames] == [f"step {step}" for step in steps]


def test_a_filmstrip_shows_the_first_four_rows_and_columns(tmp_path: Path) -> None:
    folder = fake_runs.run(tmp_path, n_evals=2)
    tiles = torch.arange(100, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    for path in folder.glob("samples-*.png"):
        pictures.write_grid(tiles, 10, path)
    [(seed, frames)] = samples.first_frames(group_of(tmp_path)).values()
    assert (seed, len(frames)) == (0, 2)
    side = len(frames[0][1]) / 4
    centres = [int((k + 0.5) * side) for k in range(4)]
    shown = frames[0][1][np.ix_(centres, centres)][..., 0]
    assert shown.tolist() == [[10 * row + column for column in range(4)] for row in range(4)]


def test_restored_images_have_column_heads(tmp_path: Path) -> None:
    folder = fake_runs.run(tmp_path, model="srgan", task="super-resolution", fid=20)
    pictures.write_grid(torch.zeros(40, 1, 8, 8, dtype=torch.uint8), 4, folder / "samples.png")
    figure = grids(group_of(tmp_path))
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].texts] == ["low res", "bicubic", "model", "original"]
    height, width = figure.axes[0].images[0].get_size()
    assert height == width  # four of the ten examples


def test_real_images_stand_beside_samples_where_a_run_left_them(tmp_path: Path) -> None:
    folders = [fake_runs.run(tmp_path, model=model) for model in ("vanilla", "dcgan")]
    real = torch.full((100, 1, 8, 8), 77, dtype=torch.uint8)
    pictures.write_grid(real, 10, folders[1] / "real.png")
    group = group_of(tmp_path)
    figure = grids(group)
    assert figure is not None
    assert [ax.get_title() for ax in figure.axes if ax.images] == ["real data", *group.summary["label"]]
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None
    assert np.median(np.asarray(shown)) == 77
