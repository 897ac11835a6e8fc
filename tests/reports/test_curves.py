"""Curves: what is drawn along training, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from drawn import group_of, panels, styles_of, titles, training_curves

from bench.scoring.scores import FID
from reports import searches
from reports.figures import canvas, curves
from reports.figures.styles import styles
from reports.groups import Group


def test_curves_name_every_model_and_have_a_line_at_one_half(group: Group) -> None:
    figure = training_curves(group, styles_of(group))
    assert figure is not None
    assert titles(figure) == list(group.summary["label"])
    accuracies = [ax for ax in figure.axes if ax.get_ylabel() == "accuracy"]
    assert len(accuracies) == 2
    for ax in accuracies:
        assert any(np.allclose(line.get_ydata(), 0.5) for line in ax.get_lines())


def test_a_curve_is_the_mean_over_seeds_within_their_range(group: Group) -> None:
    [row] = group.summary[group.summary["model"] == "vanilla"].to_dict("records")
    history = curves.histories(group)[row["id"]]
    figure = training_curves(group, styles_of(group))
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
    figure = training_curves(group, styles_of(group))
    assert figure is not None
    canvas.save(figure, tmp_path / "curves")
    wide = {title: ax.get_position().width for ax in figure.axes if (title := ax.get_title(loc="left"))}
    assert wide["wgan_gp"] > 1.9 * wide["vanilla"] == pytest.approx(1.9 * wide["dcgan"])
    assert all(ax.get_lines() for ax in figure.axes)


def test_a_run_that_ended_early_has_a_cross(group: Group) -> None:
    figure = training_curves(group, styles_of(group))
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
    [history] = curves.histories(group_of(tmp_path)).values()
    assert set(history["seed"]) == {0}
    (good / "history.csv").unlink()
    assert training_curves(group_of(tmp_path), {}) is None


def test_convergence_needs_scores_along_the_way(group: Group, tmp_path: Path) -> None:
    points = curves.evaluations(group, "classifier", FID)
    assert len(points) == 9 * 4  # the diverged run has none
    assert sorted(set(points["device_s"])) == [2.0, 4.0, 6.0, 8.0]
    assert panels(curves.convergence(group, "classifier", FID, styles_of(group)))[0] == list(
        group.summary["label"]
    )
    stacked = fake_runs.run(tmp_path / "stack", n_evals=2, images=False, fields={"cost.stack": 4})
    points = curves.evaluations(group_of(stacked.parents[2]), "classifier", FID)
    assert list(points["device_s"]) == [1.0, 2.0]
    evals = [{"step": 1, "train_s": 8.0, "compute_s": 3.0, "metrics": {"classifier": {"fid": 5.0}}}]
    counted = fake_runs.run(tmp_path / "counted", images=False, fields={"evals": evals, "cost.stack": 4})
    assert list(curves.evaluations(group_of(counted.parents[2]), "classifier", FID)["device_s"]) == [3.0]
    unknown = fake_runs.run(tmp_path / "unknown", n_evals=1, images=False, fields={"cost.stack": {}})
    assert list(curves.evaluations(group_of(unknown.parents[2]), "classifier", FID)["device_s"]) == [8.0]
    fake_runs.run(tmp_path, images=False)
    assert curves.convergence(group_of(tmp_path), "classifier", FID, {}) is None


def test_a_wide_range_is_logarithmic_with_plain_numbers(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 3, "b": 300}, seeds=range(2), n_evals=3, spread=0.1, images=False)
    group = group_of(tmp_path)
    figure = curves.convergence(group, "classifier", FID, styles_of(group))
    assert figure is not None
    canvas.save(figure, tmp_path / "figure")
    for ax in figure.axes:
        assert ax.get_yscale() == "log"
        labels = [label.get_text() for label in (*ax.get_yticklabels(), *ax.get_yticklabels(minor=True))]
        assert {"10", "100"} <= set(labels)
        assert not [label for label in labels if "$" in label]


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
    figure = curves.budget(alike, styles([], [alike]))
    assert panels(figure) == [["dcgan (random)", "vanilla (random)"]]
    assert figure.axes[0].get_ylabel() == "expected best validation fid"


def test_many_curves_have_no_bands(group: Group, twelve: Group) -> None:
    for some, bands in ((group, 3), (twelve, 0)):
        figure = curves.convergence(some, "classifier", FID, styles_of(some))
        assert figure is not None
        assert [len(ax.collections) for ax in figure.axes] == [bands, bands]
