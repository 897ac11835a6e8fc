"""All figures: their size, their bytes, and any name that a model may have."""

from __future__ import annotations

from pathlib import Path

import fake_runs
import pytest
from drawn import filmstrip, grids, group_of, styles_of, titles, training_curves

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
