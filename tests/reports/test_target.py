"""Time to a target, and the best score so far, from the evaluations along training."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import fake_runs
import numpy as np
import pandas as pd
import pytest
from drawn import cell, group_of, panels, styles_of

from bench.errors import UsageError
from bench.scoring.scores import FID, PRECISION
from reports import target
from reports.build import main
from reports.figures import progress


def a_run(root: Path, model: str, seed: int, fids: list[float], **options: str) -> None:
    """Scored at steps 100, 200, … after 2, 4, … seconds."""
    evals = [
        {"step": 100 * k, "train_s": 2.0 * k, "metrics": {"classifier": {"fid": fid}}}
        for k, fid in enumerate(fids, 1)
    ]
    fields = {"evals": evals}
    fake_runs.run(root, model=model, seed=seed, fid=fids[-1], images=False, fields=fields, **options)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("target")
    for seed, fids in enumerate(([9.0, 5.0, 6.0], [9.0, 8.0, 4.0], [9.0, 8.0, 7.0])):
        a_run(root, "dcgan", seed, fids)
    for seed in range(3):
        a_run(root, "vanilla", seed, [30.0, 20.0, 10.0 + seed])
    a_run(root, "vanilla", 3, [1.0, 1.0, 1.0], status="diverged")
    return root


def test_steps_and_seconds_by_hand(study: Path) -> None:
    group = group_of(study)
    found = target.reached(group, "vanilla", target.parse("fid=5"))
    assert found is not None
    assert found.goal == "FID ≤ 5"
    shown = target.table(group, found)
    assert [c.text for c in shown.rows[0].cells] == ["2/3", "300 (200 to never)", "6 (4 to never)"]
    assert [c.text for c in shown.rows[1].cells] == ["0/4", "never", "never"]  # what diverged never does
    assert math.isnan(cell(shown, "vanilla", "Steps").value)
    assert found.runs["steps"].tolist() == [200, 300, math.inf, *[math.inf] * 4]


def test_by_default_as_good_as_the_baseline_in_the_end(study: Path, tmp_path: Path) -> None:
    group = group_of(study)
    found = target.reached(group, "vanilla")
    assert found is not None
    assert (found.value, found.whose) == (11.5, "the median final score of vanilla")  # 10, 11, 12, failed
    assert found.runs["steps"].tolist()[:3] == [100, 100, 100]
    without = target.reached(group, "nobody")
    assert without is not None
    assert (without.value, without.whose) == (6.0, "the median final score of dcgan")
    fake_runs.study(tmp_path, {"vanilla": 20}, images=False)
    assert target.reached(group_of(tmp_path), "vanilla") is None  # not scored along the way


def test_higher_is_better_where_it_is(tmp_path: Path) -> None:
    folder = fake_runs.run(tmp_path, n_evals=4, images=False)
    evals = json.loads((folder / "run.json").read_text())["evals"]
    third = evals[2]["metrics"]["classifier"]["precision"]
    best = max(e["metrics"]["classifier"]["precision"] for e in evals)
    found = target.reached(group_of(tmp_path), "vanilla", target.Target(PRECISION, max(third, best)))
    assert found is not None
    assert found.goal.startswith("Precision ≥ ")
    assert found.runs["steps"].item() == next(
        e["step"] for e in evals if e["metrics"]["classifier"]["precision"] == best
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("fod=5", "no score 'fod'; one of fid, kid_mean,"),
        ("fid", "expected a number after '=', as in fid=5"),
        ("fid=low", "expected a number"),
        ("fid=nan", "expected a number"),
    ],
)
def test_bad_targets_are_one_line(asked: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        target.parse(asked)
    assert str(error.value).startswith(f"--target {asked!r}: ")
    assert said in str(error.value)


@pytest.mark.slow
def test_in_a_report(study: Path, tmp_path: Path) -> None:
    assert main([str(study), "--out", str(tmp_path), "--target", "fid=5"]) == 0
    for name in ("table.md", "report.html", "table.tex"):
        assert "300 (200 to never)" in (tmp_path / name).read_text()
    rows = list(csv.DictReader((tmp_path / "target.csv").read_text().splitlines()))
    assert [(row["label"], row["seed"], row["steps"]) for row in rows][:3] == [
        ("dcgan", "0", "200.0"),
        ("dcgan", "1", "300.0"),
        ("dcgan", "2", "inf"),
    ]
    with pytest.raises(UsageError, match="--target psnr: no run was scored with it along the way"):
        main([str(study), "--out", str(tmp_path), "--target", "psnr=20"])


def test_best_so_far_by_hand() -> None:
    points = pd.DataFrame(
        [
            (seed, step, fid)
            for seed, fids in enumerate([[9, 5, 6], [8, 8, 4]])
            for step, fid in enumerate(fids)
        ],
        columns=["seed", "step", "value"],
    )
    grid, (low, middle, high) = progress.quartiles(points, "step", FID, 2)
    assert grid.tolist() == [0, 1, 2]
    assert (low.tolist(), high.tolist()) == ([8, 5, 4], [9, 8, 5])
    assert middle.tolist() == [8.5, 6.5, 4.5]
    _, (_, middle, high) = progress.quartiles(points, "step", FID, 3)  # the third run failed
    assert middle.tolist() == [9, 8, 5]
    assert np.isnan(high).all()


def test_the_figure_has_a_line_per_model(study: Path) -> None:
    group = group_of(study)
    figure = progress.best_so_far(group, "classifier", FID, styles_of(group))
    named = [[label for label in panel if not label.startswith("_")] for panel in panels(figure)]
    assert named == [["dcgan", "vanilla"]] * 2
