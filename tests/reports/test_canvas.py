"""All figures: their size, their bytes, and any name that a model may have."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from drawn import filmstrip, grids, group_of, styles_of, titles, training_curves
from PIL import Image

from reports.figures import canvas, spread
from reports.groups import Group


@pytest.mark.slow
def test_twelve_models_fit_on_a_page(twelve: Group) -> None:
    names = list(twelve.summary["label"])
    strip = spread.strip(twelve, "classifier", styles_of(twelve))
    training = training_curves(twelve, styles_of(twelve))
    film = filmstrip(twelve)
    assert titles(training) == titles(film) == titles(grids(twelve), "center") == names
    for figure in (strip, training, film, grids(twelve)):
        assert figure is not None
        assert figure.get_size_inches()[0] <= canvas.PAGE + 1e-9
        assert figure.get_size_inches()[1] <= canvas.TALLEST + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["_hidden", "中文 \U0001f600", "x" * 300, "$a_b^{c$", "a\nb\x00", r"\frac{1}{2}"]
)
def test_no_name_breaks_a_figure(tmp_path: Path, name: str) -> None:
    for seed in range(2):
        fake_runs.run(tmp_path / "runs", model=name, seed=seed, n_evals=2)
    group = group_of(tmp_path / "runs")
    how = styles_of(group)
    drawn = (training_curves(group, how), spread.strip(group, "classifier", how), grids(group))
    for k, figure in enumerate(drawn):
        assert figure is not None
        canvas.save(figure, tmp_path / str(k))
    figure = spread.precision_recall(group, "classifier", how)
    assert figure is not None
    assert len(figure.legends[0].get_texts()) == 2


@pytest.mark.slow
def test_the_same_figure_gives_the_same_bytes(group: Group, tmp_path: Path) -> None:
    written = []
    for folder in ("a", "b"):
        figure = spread.strip(group, "classifier", styles_of(group))
        assert figure is not None
        written.append(canvas.save(figure, tmp_path / folder / "scores", ("png", "pdf")))
    assert [path.name for path in written[0]] == ["scores.png", "scores.pdf"]
    for first, second in zip(*written, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_figures_leave_no_global_state(group: Group) -> None:
    import matplotlib
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    training_curves(group, styles_of(group))
    spread.strip(group, "classifier", styles_of(group))
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


@pytest.mark.slow
def test_a_dark_figure_has_nothing_dark_on_its_ground(group: Group, tmp_path: Path) -> None:
    """All ink is light, the ground is that of the page, and hues are kept; ticks are drawn anew, too."""
    how = styles_of(group)
    for figure in (training_curves(group, how), spread.strip(group, "classifier", how)):
        assert figure is not None
        [path] = canvas.save(figure, tmp_path / "light")
        light, dark = (
            np.asarray(Image.open(file).convert("RGB")) for file in (path, BytesIO(canvas.dark(figure)))
        )
        assert light.shape == dark.shape
        assert tuple(light[0, 0]) == (255, 255, 255)
        assert tuple(dark[0, 0]) == (20, 23, 26)
        assert dark.max(axis=2).min() >= 20  # black text would be darker than the ground
        ink = light.max(axis=2) < 30
        assert ink.sum() > 1000
        assert np.median(dark[ink].max(axis=1)) > 200  # black became light
        white = (light == 255).all(axis=2)
        assert (dark[white].max(axis=1) == 26).mean() > 0.99  # and white stayed ground


def test_pictures_in_a_dark_figure_are_as_they_were(group: Group, tmp_path: Path) -> None:
    figure = grids(group)
    assert figure is not None
    [path] = canvas.save(figure, tmp_path / "light")
    before = np.asarray(Image.open(path).convert("RGB"))
    after = np.asarray(Image.open(BytesIO(canvas.dark(figure))).convert("RGB"))
    box = figure.axes[0].get_window_extent().bounds
    left, bottom, width, height = (int(value) for value in box)
    rows = slice(before.shape[0] - bottom - height + 5, before.shape[0] - bottom - 5)
    columns = slice(left + 5, left + width - 5)
    assert (before[rows, columns] == after[rows, columns]).all()


def test_a_figure_of_another_library_gets_the_look_of_ours() -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(20, 5), facecolor="pink")
    ax = figure.subplots()
    ax.set(facecolor="0.9", title="a title")
    ax.title.set_fontsize(30)
    canvas.adopt(figure)
    assert list(figure.get_size_inches()) == [canvas.PAGE, 0.4 * canvas.PAGE]
    assert figure.get_facecolor() == ax.get_facecolor() == (1, 1, 1, 1)
    assert ax.title.get_fontsize() == canvas.STYLE["axes.titlesize"]
    assert [side for side, spine in ax.spines.items() if spine.get_visible()] == ["left", "bottom"]
