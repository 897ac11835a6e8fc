"""Every seed's score in a figure, and what it is read against."""

from __future__ import annotations

from pathlib import Path

import fake_runs
import numpy as np
import pytest
from drawn import group_of, styles_of

from bench.scoring.scores import FID, SCORES
from reports.figures import spread
from reports.groups import Group


def test_every_seed_has_a_dot_in_the_strip(group: Group) -> None:
    figure = spread.strip(group, "classifier", styles_of(group))
    assert figure is not None
    assert len(figure.axes) == len(group.scores("classifier"))
    dots = np.concatenate([c.get_offsets()[:, 0] for c in figure.axes[0].collections])
    fids = group.runs["metrics.classifier.fid"].dropna()
    assert sorted(dots) == pytest.approx(sorted(fids))


def test_the_strip_shows_training_images(group: Group) -> None:
    figure = spread.strip(group, "classifier", styles_of(group))
    assert figure is not None
    floor = fake_runs.FLOOR_FID["classifier"]
    assert any(np.allclose(line.get_xdata(), floor) for line in figure.axes[0].get_lines())


def test_precision_and_recall_have_a_mark_per_seed(group: Group) -> None:
    figure = spread.precision_recall(group, "classifier", styles_of(group))
    assert figure is not None
    assert [len(c.get_offsets()) for c in figure.axes[0].collections] == [
        3,
        3,
        3,
        1,
    ]  # the last: real


def test_profiles_count_the_diverged_run(group: Group) -> None:
    figure = spread.profiles(group, "classifier", FID, styles_of(group))
    assert figure is not None
    ends = {str(line.get_label()): line.get_ydata()[-1] for line in figure.axes[0].get_lines()}
    assert ends == {"vanilla": 1.0, "wgan_gp": 1.0, "dcgan": 0.75}


def test_each_score_is_read_against_what_there_is(group: Group, tmp_path: Path) -> None:
    assert list(group.references("classifier", FID)) == ["training images"]
    fake_runs.run(tmp_path, model="srgan", task="super-resolution", images=False)
    psnr = next(score for score in SCORES if score.name == "psnr")
    assert group_of(tmp_path).references("super-resolution", psnr) == {"bicubic": 24.1}
    assert group_of(tmp_path).references("super-resolution", FID) == {}


def test_models_without_a_score_say_why(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(2), images=False)
    fake_runs.study(tmp_path, {"cgan": 30}, seeds=range(2), images=False, conditional=True)
    fake_runs.study(tmp_path, {"wgan": 30}, seeds=range(2), images=False, status="diverged")
    group = group_of(tmp_path)
    figure = spread.strip(group, "classifier", styles_of(group))
    assert figure is not None
    words = {ax.get_xlabel(): [text.get_text() for text in ax.texts] for ax in figure.axes}
    assert words["FID ↓"] == ["0/2 finished"]
    assert words["Cond. acc. ↑"] == ["—", "0/2 finished"]


def test_whole_numbers_have_whole_ticks(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 20, "b": 70}, seeds=range(2), images=False)
    group = group_of(tmp_path)
    figure = spread.strip(group, "classifier", styles_of(group))
    assert figure is not None
    [modes] = [ax for ax in figure.axes if ax.get_xlabel() == "Modes ↑"]
    assert all(float(tick).is_integer() for tick in modes.get_xticks())


def test_an_outlier_does_not_hide_the_others(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 30, "b": 25}, seeds=range(2), images=False)
    fake_runs.run(tmp_path, model="b", seed=2, fid=4000, images=False)
    group = group_of(tmp_path)
    strip = spread.strip(group, "classifier", styles_of(group))
    profile = spread.profiles(group, "classifier", FID, styles_of(group))
    assert strip is not None
    assert profile is not None
    assert strip.axes[0].get_xscale() == profile.axes[0].get_xscale() == "log"
    assert profile.axes[0].get_xlabel() == "threshold τ on FID (classifier)"
    group.summary[
        "floor.classifier.fid.mean"
    ] = -1.0  # as KID's may be: a logarithmic axis has no place for it
    strip = spread.strip(group, "classifier", styles_of(group))
    assert strip is not None
    assert strip.axes[0].get_xlim()[0] > 1


def test_thresholds_on_positive_scores_are_positive() -> None:
    assert spread._thresholds(np.array([0.1, 30.0]), wide=False)[0] == 0
    assert spread._thresholds(np.array([-0.1, 30.0]), wide=False)[0] < -0.1
