"""Figures: what is drawn, what is left out, and that files come out the same every time."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import fake_runs
import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import reports
from bench.scoring import pictures
from reports import plots, searches, summary
from reports.styles import LONGEST, Look
from reports.styles import looks as looks_of
from reports.summary import SCORES, Group

FID = SCORES[0]


def group_of(root: Path) -> Group:
    [group] = summary.groups(reports.load(root))
    return group


def looks(group: Group) -> dict[str, Look]:
    return looks_of([group])


def grids(group: Group) -> Figure | None:
    return plots.grids(group, plots.first_grids(group), looks(group))


def filmstrip(group: Group) -> Figure | None:
    return plots.filmstrip(group, plots.first_frames(group), looks(group))


def titles(figure: Figure | None, loc: Literal["left", "center"] = "left") -> list[str]:
    """The titles of a figure's panels that have one."""
    assert figure is not None
    return [title for ax in figure.axes if (title := ax.get_title(loc=loc))]


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Group:
    """Three models, one of them a critic, one with a diverged run; scored along the way."""
    root = tmp_path_factory.mktemp("study")
    fake_runs.study(root, {"vanilla": 40, "dcgan": 20, "wgan_gp": 25}, seeds=range(3), n_evals=4)
    fake_runs.run(root, model="dcgan", seed=3, status="diverged", n_evals=4)
    return group_of(root)


def panels(figure: Figure | None) -> list[list[str]]:
    """The labels of each panel's lines."""
    assert figure is not None
    return [[str(line.get_label()) for line in ax.get_lines()] for ax in figure.axes]


def test_curves_name_every_model_and_have_a_line_at_one_half(group: Group) -> None:
    figure = plots.curves(group, looks(group))
    assert figure is not None
    assert titles(figure) == list(group.summary["label"])
    accuracies = [ax for ax in figure.axes if ax.get_ylabel() == "accuracy"]
    assert len(accuracies) == 2
    for ax in accuracies:
        assert any(np.allclose(line.get_ydata(), 0.5) for line in ax.get_lines())


def test_a_curve_is_the_mean_over_seeds_within_their_range(group: Group) -> None:
    [row] = group.summary[group.summary["model"] == "vanilla"].to_dict("records")
    history = plots.histories(group)[row["id"]]
    figure = plots.curves(group, looks(group))
    assert figure is not None
    [ax] = [ax for ax in figure.axes if ax.get_title(loc="left") == "vanilla"]
    [line] = [line for line in ax.get_lines() if line.get_label() == "G loss"]
    expected = history.groupby("step")["g_loss"].mean()
    assert np.asarray(line.get_ydata()) == pytest.approx(expected.to_numpy())
    band = ax.collections[1].get_paths()[0].vertices
    over_seeds = history.groupby("step")["g_loss"]
    assert band[:, 1].min() == pytest.approx(over_seeds.min().min())
    assert band[:, 1].max() == pytest.approx(over_seeds.max().max())


def test_the_losses_of_a_critic_take_the_place_of_its_accuracy(group: Group, tmp_path: Path) -> None:
    figure = plots.curves(group, looks(group))
    assert figure is not None
    plots.save(figure, tmp_path / "curves")
    wide = {title: ax.get_position().width for ax in figure.axes if (title := ax.get_title(loc="left"))}
    assert wide["wgan_gp"] > 1.9 * wide["vanilla"] == pytest.approx(1.9 * wide["dcgan"])
    assert all(ax.get_lines() for ax in figure.axes)


def test_a_run_that_ended_early_has_a_cross(group: Group) -> None:
    figure = plots.curves(group, looks(group))
    assert figure is not None
    crosses = {
        ax.get_title(loc="left"): [
            len(line.get_xdata()) for line in ax.get_lines() if line.get_marker() == "x"
        ]
        for ax in figure.axes
        if ax.get_ylabel() == "loss"
    }
    assert crosses == {"vanilla": [0, 0], "wgan_gp": [0, 0], "dcgan": [1, 1]}


def test_broken_histories_are_left_out(tmp_path: Path) -> None:
    good, *bad = (fake_runs.run(tmp_path, seed=seed, images=False) for seed in range(5))
    (bad[0] / "history.csv").unlink()
    (bad[1] / "history.csv").write_text("step,d_loss\n1,low\n")
    (bad[2] / "history.csv").write_bytes(b"\xff\x00\n")
    (bad[3] / "history.csv").write_text("step\n")
    [history] = plots.histories(group_of(tmp_path)).values()
    assert set(history["seed"]) == {0}
    (good / "history.csv").unlink()
    assert plots.curves(group_of(tmp_path), {}) is None


def test_every_seed_has_a_dot_in_the_strip(group: Group) -> None:
    figure = plots.strip(group, "classifier", looks(group))
    assert figure is not None
    assert len(figure.axes) == len(group.scores("classifier"))
    dots = np.concatenate([c.get_offsets()[:, 0] for c in figure.axes[0].collections])
    fids = group.runs["metrics.classifier.fid"].dropna()
    assert sorted(dots) == pytest.approx(sorted(fids))


def test_the_strip_shows_the_floor(group: Group) -> None:
    figure = plots.strip(group, "classifier", looks(group))
    assert figure is not None
    floor = fake_runs.FLOOR_FID["classifier"]
    assert any(np.allclose(line.get_xdata(), floor) for line in figure.axes[0].get_lines())


def test_convergence_needs_scores_along_the_way(group: Group, tmp_path: Path) -> None:
    points = plots.evaluations(group, "classifier", FID)
    assert len(points) == 9 * 4  # the diverged run has none
    assert sorted(set(points["device_s"])) == [2.0, 4.0, 6.0, 8.0]
    assert panels(plots.convergence(group, "classifier", FID, looks(group)))[0] == list(
        group.summary["label"]
    )
    stacked = fake_runs.run(tmp_path / "stack", n_evals=2, images=False, fields={"cost.stack": 4})
    points = plots.evaluations(group_of(stacked.parents[2]), "classifier", FID)
    assert list(points["device_s"]) == [1.0, 2.0]
    unknown = fake_runs.run(tmp_path / "unknown", n_evals=1, images=False, fields={"cost.stack": {}})
    assert list(plots.evaluations(group_of(unknown.parents[2]), "classifier", FID)["device_s"]) == [8.0]
    fake_runs.run(tmp_path, images=False)
    assert plots.convergence(group_of(tmp_path), "classifier", FID, {}) is None


def test_a_wide_range_is_logarithmic_with_plain_numbers(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 3, "b": 300}, seeds=range(2), n_evals=3, spread=0.1, images=False)
    group = group_of(tmp_path)
    figure = plots.convergence(group, "classifier", FID, looks(group))
    assert figure is not None
    plots.save(figure, tmp_path / "figure")
    for ax in figure.axes:
        assert ax.get_yscale() == "log"
        labels = [label.get_text() for label in (*ax.get_yticklabels(), *ax.get_yticklabels(minor=True))]
        assert {"10", "100"} <= set(labels)
        assert not [label for label in labels if "$" in label]


def test_precision_and_recall_have_a_mark_per_seed(group: Group) -> None:
    figure = plots.precision_recall(group, "classifier", looks(group))
    assert figure is not None
    assert [len(c.get_offsets()) for c in figure.axes[0].collections] == [3, 3, 3, 1]  # the last: real data


def test_profiles_count_the_diverged_run(group: Group) -> None:
    figure = plots.profiles(group, "classifier", FID, looks(group))
    assert figure is not None
    ends = {str(line.get_label()): line.get_ydata()[-1] for line in figure.axes[0].get_lines()}
    assert ends == {"vanilla": 1.0, "wgan_gp": 1.0, "dcgan": 0.75}


def test_budget_curves_of_searches_that_may_be_compared(tmp_path: Path) -> None:
    def write(name: str, **changes: object) -> Path:
        request = {"model": name, "sampler": "random", "steps": 9, "seeds": [0], "objectives": ["fid"]}
        request |= {"protocol": {"dataset": {"name": "digits"}}} | changes
        folder = tmp_path / "studies" / name
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps({"request": request}))
        (folder / "expected.csv").write_text("trials,expected,low,high\n1,9,8,10\n2,7,6,9\n")
        return folder

    write("vanilla")
    write("dcgan")
    write("longer", steps=10)
    (write("broken") / "expected.csv").write_text("trials\n1\n")
    (write("cut") / "summary.json").write_text("{")
    found, skipped = searches.load([tmp_path])
    assert len({search.alike for search in found}) == 2
    assert [line.split(":")[0] for line in skipped] == [
        str(tmp_path / "studies" / name / "summary.json") for name in ("broken", "cut")
    ]
    alike = [search for search in found if search.label != "longer (random)"]
    figure = plots.budget(alike, looks_of([], [alike]))
    assert panels(figure) == [["dcgan (random)", "vanilla (random)"]]
    assert figure.axes[0].get_ylabel() == "expected best validation fid"


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


def legend(figure: Figure | None) -> list[str]:
    assert figure is not None
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_no_model_is_lost_behind_a_name_too_long(tmp_path: Path) -> None:
    for k, lr in enumerate((1e-4, 2e-4, 3e-4, 1e-3)):
        settings = {"lr": lr, "g_widths": [256, 512, 1024] if k % 2 else [128, 256]}
        options: dict[str, Any] = {"hyperparameters": settings, "n_evals": 2, "fid": 60.0 - 10 * k}
        for seed in range(2):
            fake_runs.run(tmp_path, seed=seed, **options)
    group = group_of(tmp_path)
    look = looks(group)
    names = [f"vanilla #{k}" for k in (1, 2, 3, 4)]  # as the table has them, best first
    assert [look[run_id].label for run_id in group.summary["id"]] == names
    assert [look[run_id].whole for run_id in group.summary["id"]] == list(group.summary["label"])
    assert titles(grids(group), "center") == titles(filmstrip(group)) == names
    assert titles(plots.curves(group, look)) == names
    assert legend(plots.convergence(group, "classifier", FID, look)) == names
    assert legend(plots.profiles(group, "classifier", FID, look)) == names
    assert legend(plots.precision_recall(group, "classifier", look)) == [*names, "real data"]


@pytest.mark.parametrize("models", [("生成", "对抗"), ("package.a:" + "x" * 99, "package.a:" + "x" * 98)])
def test_names_that_the_font_or_the_room_make_alike_are_numbered(
    tmp_path: Path, models: tuple[str, str]
) -> None:
    for model in models:
        fake_runs.run(tmp_path, model=model, n_evals=2)
    labels = [look.label for look in looks(group_of(tmp_path)).values()]
    assert len(set(labels)) == 2
    assert all(len(label) <= LONGEST + 1 for label in labels)


def test_a_model_looks_the_same_in_every_figure(tmp_path: Path) -> None:
    fids = {"vanilla": 40, "dcgan": 20, "wgan_gp": 30}
    fake_runs.study(tmp_path, fids, seeds=range(2), images=False)
    fake_runs.study(tmp_path, fids | {"vanilla": 10}, seeds=range(2), dataset="mnist", images=False)
    groups = summary.groups(reports.load(tmp_path))
    assert [list(group.summary["model"]) for group in groups] == [
        ["dcgan", "wgan_gp", "vanilla"], ["vanilla", "dcgan", "wgan_gp"],
    ]  # fmt: skip
    look = looks_of(groups)
    of = [{look[i].label: look[i] for i in group.summary["id"]} for group in groups]
    assert of[0] == of[1]
    drawn = []
    for group in groups:
        figure = plots.profiles(group, "classifier", FID, look)
        assert figure is not None
        drawn.append({str(line.get_label()): line.get_color() for line in figure.axes[0].get_lines()})
    assert drawn[0] == drawn[1] == {name: how.color for name, how in of[0].items()}


def test_colors_can_be_seen_on_white(tmp_path: Path) -> None:
    for k in range(12):
        fake_runs.run(tmp_path, model=f"m{k}", images=False)

    def luminance(color: tuple[float, float, float]) -> float:
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
        return float(np.dot((0.2126, 0.7152, 0.0722), linear))

    for look in looks(group_of(tmp_path)).values():
        assert 1.05 / (luminance(look.color) + 0.05) > 2


def test_looks_are_one_of_a_kind(tmp_path: Path) -> None:
    for k in range(18):
        fake_runs.run(tmp_path, model=f"m{k}", images=False)
    found = list(looks(group_of(tmp_path)).values())
    assert len({(look.color, look.line) for look in found}) == len(found)
    assert len({(look.color, look.marker) for look in found}) == len(found)
    assert len({(look.line, look.marker) for look in found}) == len(found)  # in grey


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Group:
    root = tmp_path_factory.mktemp("twelve")
    models = {f"model_{k:02}": 20.0 + k for k in range(12)}
    fake_runs.study(root, models, seeds=range(2), n_evals=10, conditional=True)
    return group_of(root)


def test_twelve_models_fit_on_a_page(twelve: Group) -> None:
    names = list(twelve.summary["label"])
    strip = plots.strip(twelve, "classifier", looks(twelve))
    curves = plots.curves(twelve, looks(twelve))
    film = filmstrip(twelve)
    assert titles(curves) == titles(film) == titles(grids(twelve), "center") == names
    for figure in (strip, curves, film, grids(twelve)):
        assert figure is not None
        assert figure.get_size_inches()[0] <= plots.PAGE + 1e-9
        assert figure.get_size_inches()[1] <= plots.TALLEST + 1e-9


def test_many_curves_have_no_bands(group: Group, twelve: Group) -> None:
    for some, bands in ((group, 3), (twelve, 0)):
        figure = plots.convergence(some, "classifier", FID, looks(some))
        assert figure is not None
        assert [len(ax.collections) for ax in figure.axes] == [bands, bands]


def test_frames_are_equally_far_apart_and_end_with_the_last(twelve: Group, group: Group) -> None:
    for some, steps in ((twelve, (40, 160, 280, 400)), (group, (100, 200, 300, 400))):
        for _, frames in plots.first_frames(some).values():
            assert [name for name, _ in frames] == [f"step {step}" for step in steps]


def test_a_filmstrip_shows_the_first_four_rows_and_columns(tmp_path: Path) -> None:
    folder = fake_runs.run(tmp_path, n_evals=2)
    tiles = torch.arange(100, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    for path in folder.glob("samples-*.png"):
        pictures.write_grid(tiles, 10, path)
    [(seed, frames)] = plots.first_frames(group_of(tmp_path)).values()
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


def test_each_score_is_read_against_what_there_is(group: Group, tmp_path: Path) -> None:
    assert list(plots.reference_lines(group, "classifier", FID)) == ["real data"]
    fake_runs.run(tmp_path, model="srgan", task="super-resolution", images=False)
    psnr = next(score for score in SCORES if score.key == "psnr")
    assert plots.reference_lines(group_of(tmp_path), "super-resolution", psnr) == {"bicubic": 24.1}
    assert plots.reference_lines(group_of(tmp_path), "super-resolution", FID) == {}


def test_models_without_a_score_say_why(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(2), images=False)
    fake_runs.study(tmp_path, {"cgan": 30}, seeds=range(2), images=False, conditional=True)
    fake_runs.study(tmp_path, {"wgan": 30}, seeds=range(2), images=False, status="diverged")
    group = group_of(tmp_path)
    figure = plots.strip(group, "classifier", looks(group))
    assert figure is not None
    words = {ax.get_xlabel(): [text.get_text() for text in ax.texts] for ax in figure.axes}
    assert words["FID ↓"] == ["0/2 finished"]
    assert words["Cond. acc. ↑"] == ["—", "0/2 finished"]


def test_whole_numbers_have_whole_ticks(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 20, "b": 70}, seeds=range(2), images=False)
    group = group_of(tmp_path)
    figure = plots.strip(group, "classifier", looks(group))
    assert figure is not None
    [modes] = [ax for ax in figure.axes if ax.get_xlabel() == "Modes ↑"]
    assert all(float(tick).is_integer() for tick in modes.get_xticks())


def test_an_outlier_does_not_hide_the_others(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 30, "b": 25}, seeds=range(2), images=False)
    fake_runs.run(tmp_path, model="b", seed=2, fid=4000, images=False)
    group = group_of(tmp_path)
    strip = plots.strip(group, "classifier", looks(group))
    profile = plots.profiles(group, "classifier", FID, looks(group))
    assert strip is not None
    assert profile is not None
    assert strip.axes[0].get_xscale() == profile.axes[0].get_xscale() == "log"
    assert profile.axes[0].get_xlabel() == "threshold τ on FID (classifier)"
    group.summary[
        "floor.classifier.fid.mean"
    ] = -1.0  # as KID's may be: a logarithmic axis has no place for it
    strip = plots.strip(group, "classifier", looks(group))
    assert strip is not None
    assert strip.axes[0].get_xlim()[0] > 1


def test_thresholds_on_positive_scores_are_positive() -> None:
    assert plots._thresholds(np.array([0.1, 30.0]), wide=False)[0] == 0
    assert plots._thresholds(np.array([-0.1, 30.0]), wide=False)[0] < -0.1


@pytest.mark.parametrize(
    "name", ["_hidden", "中文 \U0001f600", "x" * 300, "$a_b^{c$", "a\nb\x00", r"\frac{1}{2}"]
)
def test_no_name_breaks_a_figure(tmp_path: Path, name: str) -> None:
    for seed in range(2):
        fake_runs.run(tmp_path / "runs", model=name, seed=seed, n_evals=2)
    group = group_of(tmp_path / "runs")
    for k, figure in enumerate(
        (plots.curves(group, looks(group)), plots.strip(group, "classifier", looks(group)), grids(group))
    ):
        assert figure is not None
        plots.save(figure, tmp_path / str(k))
    figure = plots.precision_recall(group, "classifier", looks(group))
    assert figure is not None
    assert len(figure.legends[0].get_texts()) == 2


def test_the_same_figure_gives_the_same_bytes(group: Group, tmp_path: Path) -> None:
    written = []
    for folder in ("a", "b"):
        figure = plots.strip(group, "classifier", looks(group))
        assert figure is not None
        written.append(plots.save(figure, tmp_path / folder / "scores", ("png", "pdf")))
    assert [path.name for path in written[0]] == ["scores.png", "scores.pdf"]
    for first, second in zip(*written, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_figures_leave_no_global_state(group: Group) -> None:
    import matplotlib
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    plots.curves(group, looks(group))
    plots.strip(group, "classifier", looks(group))
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
