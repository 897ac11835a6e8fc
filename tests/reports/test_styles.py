"""A configuration looks the same in every figure, and unlike any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_runs
import numpy as np
import pytest
from drawn import filmstrip, grids, group_of, legend, styles_of, titles, training_curves

import reports
from bench.scoring.scores import FID
from reports import groups
from reports.figures import curves, spread
from reports.figures.styles import LONGEST, styles


def test_no_model_is_lost_behind_a_name_too_long(tmp_path: Path) -> None:
    for k, lr in enumerate((1e-4, 2e-4, 3e-4, 1e-3)):
        settings = {"lr": lr, "g_widths": [256, 512, 1024] if k % 2 else [128, 256]}
        options: dict[str, Any] = {"hyperparameters": settings, "n_evals": 2, "fid": 60.0 - 10 * k}
        for seed in range(2):
            fake_runs.run(tmp_path, seed=seed, **options)
    group = group_of(tmp_path)
    how = styles_of(group)
    names = [f"vanilla #{k}" for k in (1, 2, 3, 4)]  # as the table has them, best first
    assert [how[run_id].label for run_id in group.summary["id"]] == names
    assert [how[run_id].whole for run_id in group.summary["id"]] == list(group.summary["label"])
    assert titles(grids(group), "center") == titles(filmstrip(group)) == names
    assert titles(training_curves(group, how)) == names
    assert legend(curves.convergence(group, "classifier", FID, how)) == names
    assert legend(spread.profiles(group, "classifier", FID, how)) == names
    assert legend(spread.precision_recall(group, "classifier", how)) == [*names, "training images"]


@pytest.mark.parametrize("models", [("生成", "对抗"), ("package.a:" + "x" * 99, "package.a:" + "x" * 98)])
def test_names_that_the_font_or_the_room_make_alike_are_numbered(
    tmp_path: Path, models: tuple[str, str]
) -> None:
    for model in models:
        fake_runs.run(tmp_path, model=model, n_evals=2)
    labels = [style.label for style in styles_of(group_of(tmp_path)).values()]
    assert len(set(labels)) == 2
    assert all(len(label) <= LONGEST + 1 for label in labels)


def test_a_model_looks_the_same_in_every_figure(tmp_path: Path) -> None:
    fids = {"vanilla": 40, "dcgan": 20, "wgan_gp": 30}
    fake_runs.study(tmp_path, fids, seeds=range(2), images=False)
    fake_runs.study(tmp_path, fids | {"vanilla": 10}, seeds=range(2), dataset="mnist", images=False)
    found = groups.groups(reports.load(tmp_path))
    assert [list(group.summary["model"]) for group in found] == [
        ["dcgan", "wgan_gp", "vanilla"], ["vanilla", "dcgan", "wgan_gp"],
    ]  # fmt: skip
    how = styles(found)
    of = [{how[i].label: how[i] for i in group.summary["id"]} for group in found]
    assert of[0] == of[1]
    drawn = []
    for group in found:
        figure = spread.profiles(group, "classifier", FID, how)
        assert figure is not None
        drawn.append({str(line.get_label()): line.get_color() for line in figure.axes[0].get_lines()})
    assert drawn[0] == drawn[1] == {name: how.color for name, how in of[0].items()}


def test_colors_can_be_seen_on_white(tmp_path: Path) -> None:
    for k in range(12):
        fake_runs.run(tmp_path, model=f"m{k}", images=False)

    def luminance(color: tuple[float, float, float]) -> float:
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
        return float(np.dot((0.2126, 0.7152, 0.0722), linear))

    for style in styles_of(group_of(tmp_path)).values():
        assert 1.05 / (luminance(style.color) + 0.05) > 2


def test_styles_are_one_of_a_kind(tmp_path: Path) -> None:
    for k in range(18):
        fake_runs.run(tmp_path, model=f"m{k}", images=False)
    found = list(styles_of(group_of(tmp_path)).values())
    assert len({(how.color, how.line) for how in found}) == len(found)
    assert len({(how.color, how.marker) for how in found}) == len(found)
    assert len({(how.line, how.marker) for how in found}) == len(found)  # in grey
