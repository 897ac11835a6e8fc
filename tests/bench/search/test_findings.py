"""What a search found: the best trials, the budget curve, files and plots."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from PIL import Image

from bench import run
from bench.search import findings
from bench.search.study import Slot
from reports.figures import canvas

finite = st.floats(-1e6, 1e6)


def slot(number: int, *values: float, state: TrialState = TrialState.COMPLETE, ending: str = "") -> Slot:
    """A slot with one attempt at lr = number + 1."""
    trial: FrozenTrial = create_trial(
        state=state,
        values=values or None,
        params={"lr": float(number + 1)},
        distributions={"lr": FloatDistribution(0, 100)},
        user_attrs={"ending": ending, "iterations": 10, "seconds": 1.5}
        | ({"reason": "why"} if ending else {}),
    )
    return Slot(number, (trial,), retries=0)


# ------------------------------------------------------------------ the budget


def test_expected_best_of_two_by_hand() -> None:
    """Of two draws from {1, 3}: 1 in three of four cases."""
    assert findings.expected_best([3.0, 1.0], lower=True) == pytest.approx([2.0, 1.5])
    assert findings.expected_best([3.0, 1.0], lower=False) == pytest.approx([2.0, 2.5])


@pytest.mark.parametrize("lower", [True, False])
def test_expected_best_is_the_mean_over_all_draws(lower: bool) -> None:
    values = [4.0, 1.0, 1.5, 9.0]
    best = min if lower else max
    brute = [np.mean([best(draw) for draw in itertools.product(values, repeat=n)]) for n in range(1, 5)]
    assert findings.expected_best(values, lower=lower) == pytest.approx(brute)


@given(st.lists(finite, min_size=1, max_size=30), st.booleans())
def test_expected_best_starts_at_the_mean_and_improves_towards_the_best(
    values: list[float], lower: bool
) -> None:
    curve = findings.expected_best(values, lower=lower)
    scale = 1 + np.abs(values).max()
    assert curve[0] == pytest.approx(np.mean(values), abs=1e-9 * scale)
    gains = np.diff(curve) * (-1 if lower else 1)
    assert (gains >= -1e-9 * scale).all()
    assert min(values) - 1e-9 * scale <= curve.min() <= curve.max() <= max(values) + 1e-9 * scale
    mirrored = -findings.expected_best([-value for value in values], lower=not lower)
    assert curve == pytest.approx(mirrored, abs=1e-9 * scale)


def test_the_band_is_seeded_and_covers_what_searches_find() -> None:
    """Of 100 random searches of 30 trials, the bands hold the true expected best of 5 in about 95."""
    rng = np.random.default_rng(1)
    truth = 1 / 6  # of the least of 5 uniform numbers
    inside = 0
    for _ in range(100):
        row = findings.budget_curve(rng.random(30), lower=True).iloc[4]
        assert row["low"] <= row["expected"] <= row["high"]
        inside += row["low"] <= truth <= row["high"]
    assert 85 <= inside <= 100
    values = rng.random(10)
    pd.testing.assert_frame_equal(
        findings.budget_curve(values, lower=True), findings.budget_curve(values, lower=True)
    )


def test_trials_that_gave_nothing_count_as_the_worst_in_the_budget() -> None:
    slots = [
        slot(0, 5.0),
        slot(1, state=TrialState.FAIL, ending="diverged"),
        slot(2, 7.0, state=TrialState.PRUNED),
        slot(3, 3.0),
    ]
    assert findings.budget_values(slots, lower=True) == [5, 7, 7, 3]
    assert findings.budget_values(slots, lower=False) == [5, 3, 7, 3]
    assert findings.budget_values(slots[1:2], lower=True) == []


# ------------------------------------------------------------------ the best


def test_the_best_is_complete_and_by_its_direction() -> None:
    slots = [slot(0, 5.0), slot(1, 1.0, state=TrialState.PRUNED), slot(2, 3.0), slot(3, 3.0)]
    assert [best.number for best in findings.best(slots, ["fid"])] == [2]
    assert [best.number for best in findings.best(slots, ["recall"])] == [0]
    assert findings.best(slots[1:2], ["fid"]) == []


def test_the_front_is_what_no_other_trial_beats_in_everything() -> None:
    points = [(1.0, 0.1), (2.0, 0.5), (2.5, 0.4), (3.0, 0.9), (2.0, 0.5), (4.0, 0.9)]
    slots = [slot(k, *point) for k, point in enumerate(points)]
    front = findings.best(slots, ["fid", "recall"])  # fid down, recall up
    assert [best.number for best in front] == [0, 1, 4, 3]


# ------------------------------------------------------------------ files


def test_table_has_a_row_per_trial() -> None:
    frame = findings.table([slot(0, 5.0), slot(1, state=TrialState.FAIL, ending="diverged")], ["fid"])
    assert list(frame.columns) == [
        "trial", "state", "fid", "lr", "iterations", "seconds", "attempts", "reason",
    ]  # fmt: skip
    assert frame["state"].tolist() == ["complete", "diverged"]
    assert frame["fid"].isna().tolist() == [False, True]
    assert frame["reason"].tolist() == ["", "why"]


def test_a_configuration_is_what_the_main_command_reads(tmp_path: Path) -> None:
    path = tmp_path / "best.toml"
    model = "some.package:my_gan"
    values = {"lr": 1e-05, "n": 3, "amsgrad": True, "clip": None, "widths": "8,8", "mode": 'a "b" \\ é'}
    content = {
        "models": [model], "dataset": ["digits"], "steps": 40, "seeds": 3, "features": ["classifier"],
        "out": "/some where/é", "data-root": "data",
    }  # fmt: skip
    findings.write_configuration(path, content, {model: values})
    assert tomllib.loads(path.read_text(encoding="utf-8"))["set"][model]["lr"] == 1e-05
    args = run.parser().parse(["--config", str(path)])
    assert (args.models, args.dataset, args.steps, args.seeds) == ([model], ["digits"], 40, 3)
    assert args.out == Path("/some where/é")
    assert args.set == [
        (model, "lr", "1e-05"), (model, "n", "3"), (model, "amsgrad", "True"), (model, "clip", "none"),
        (model, "widths", "8,8"), (model, "mode", 'a "b" \\ é'),
    ]  # fmt: skip


def test_a_configuration_without_settings_is_read_too(tmp_path: Path) -> None:
    findings.write_configuration(tmp_path / "default.toml", {"models": ["vanilla"]}, {"vanilla": {}})
    args = run.parser().parse(["--config", str(tmp_path / "default.toml")])
    assert (args.models, args.set) == (["vanilla"], [])


def optimised(folder: Path, n_objectives: int, n_trials: int) -> optuna.Study:
    study = optuna.create_study(
        directions=["minimize"] * n_objectives, sampler=optuna.samplers.RandomSampler(0)
    )
    for _ in range(n_trials):
        trial = study.ask()
        lr = trial.suggest_float("lr", 1e-5, 1e-2, log=True)
        size = trial.suggest_int("size", 1, 8)
        norm = trial.suggest_categorical("norm", ["batch", None])
        study.tell(trial, [lr + size + (norm is None), size, -size][:n_objectives])
    return study


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [["fid"], ["fid", "train_s"], ["fid", "train_s", "mode_kl"]])
def test_plots_are_drawn(tmp_path: Path, objectives: list[str]) -> None:
    before = plt_settings()
    assert findings.draw(optimised(tmp_path, len(objectives), 8), tmp_path, objectives, canvas.adopt) == []
    expected = {"history", "importances", "parallel", "slice", "edf"}
    if len(objectives) > 1:
        expected.add("pareto")
    assert {path.stem for path in tmp_path.glob("*.png")} == expected
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 300
            assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 5, f"{path.name} is blank"
    assert plt_settings() == before


def plt_settings() -> dict[str, Any]:
    import matplotlib as mpl

    return {key: value for key, value in mpl.rcParams.items() if not key.startswith("backend")}


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    left_out = findings.draw(optimised(tmp_path, 1, 1), tmp_path, ["fid"], canvas.adopt)
    assert left_out == ["plots: they need two complete trials, and there are 1"]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_plot_that_fails_does_not_take_the_others_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object, **options: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr(optuna.visualization.matplotlib, "plot_edf", fails)
    assert findings.draw(optimised(tmp_path, 1, 3), tmp_path, ["fid"], canvas.adopt) == ["edf.png: no"]
    assert len(list(tmp_path.glob("*.png"))) == 4
