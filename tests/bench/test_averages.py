"""Averaged weights in whole commands: scored beside the trained ones, recorded, loaded and recomputed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bench
import reports
from bench import run, sample, verify
from bench.errors import UsageError
from bench.store import records
from reports import build
from reports.groups import groups
from reports.tables.tables import scores

WORDS = (
    *("--dataset", "digits", "--steps", "6", "--eval-every", "3", "--seeds", "1", "--draws", "2"),
    *("--offline", "--device", "cpu", "--workers", "0"),
    *("--set", "vanilla.ema=0.9", "vanilla.g_widths=16", "vanilla.d_widths=16"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A results folder; the run whose averaged weights its table shows, the one with the trained ones, and
    one without an average."""
    out = tmp_path_factory.mktemp("finished") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "build", lambda *arguments, **options: None)
        two = ("--models", "vanilla", "nsgan", "--save-samples", "50")
        assert run.main([*WORDS, *two, "--out", str(out)]) == 0
        (ema,), (plain,) = (list(out.glob(f"runs/{name}-*/seed-0")) for name in ("vanilla", "nsgan"))
        trained = ("--models", "vanilla", "--select-weights", "trained")
        assert run.main([*WORDS, *trained, "--out", str(out)]) == 0
        (other,) = set(out.glob("runs/vanilla-*/seed-0")) - {ema}
    return {"ema": ema, "trained": other, "plain": plain, "out": out}


def record(folder: Path) -> dict[str, Any]:
    found = records.read_record(folder)
    assert found is not None
    return found


@pytest.mark.slow
def test_both_are_scored_and_the_protocol_names_the_one_that_tables_show(finished: dict[str, Path]) -> None:
    ema, trained, plain = (record(finished[name]) for name in ("ema", "trained", "plain"))
    assert [each["protocol"]["weights"] for each in (ema, trained, plain)] == ["ema", "trained", "ema"]
    assert ema["metrics"] == trained["ema"]["metrics"]
    assert trained["metrics"] == ema["trained"]["metrics"]
    assert ema["metrics"] != trained["metrics"]
    assert ema["trained"]["d_accuracy"] == trained["d_accuracy"]["heldout"]
    for a, b in zip(ema["evals"], trained["evals"], strict=True):
        assert a["metrics"] == b["ema"]["metrics"]
        assert a["trained"]["metrics"] == b["metrics"]
    assert "trained" not in plain
    assert all("trained" not in entry for entry in plain["evals"])


@pytest.mark.slow
def test_rows_of_another_choice_stand_in_another_table(finished: dict[str, Path]) -> None:
    runs = reports.load(finished["out"])
    tables = {str(group.protocol["weights"]): group for group in groups(runs)}
    assert sorted(tables["ema"].summary["model"]) == ["nsgan", "vanilla"]
    assert list(tables["trained"].summary["model"]) == ["vanilla"]
    said = {whose: " ".join(scores(group).notes) for whose, group in tables.items()}
    fid = {whose: record(finished[whose])["metrics"]["classifier"]["fid"] for whose in ("ema", "trained")}
    of_average = (
        f"scores of the average of its weights (ema 0.9); FID of its trained weights: {fid['trained']:.4g}."
    )
    assert f"vanilla: {of_average}" in said["ema"]
    of_trained = (
        f"scores of its trained weights (ema 0.9); FID of the average of its weights: {fid['ema']:.4g}."
    )
    assert f"vanilla: {of_trained}" in said["trained"]
    assert "trained.metrics.classifier.fid.mean" in tables["ema"].summary
    assert "trained.metrics.classifier.fid" in reports.evals(runs)


@pytest.mark.slow
def test_either_can_be_loaded_and_sampled(finished: dict[str, Path], tmp_path: Path) -> None:
    ema, trained = (bench.load(finished["ema"], weights=whose).sample(50) for whose in ("ema", "trained"))
    assert (ema != trained).any()
    assert (bench.load(finished["ema"]).sample(50) == ema).all()
    assert (bench.load(finished["trained"]).sample(50) == trained).all()
    with np.load(finished["ema"] / "samples.npz") as held:
        assert (held["arr_0"] == ema).all()
    words = (str(finished["ema"]), "--n", "50", "--out", str(tmp_path / "a.npz"))
    assert sample.main([*words, "--select-weights", "trained"]) == 0
    with np.load(tmp_path / "a.npz") as held:
        assert (held["arr_0"] == trained).all()
    with pytest.raises(UsageError, match=r"no averaged ones; --set nsgan\.ema=0\.999 makes them"):
        bench.load(finished["plain"], weights="ema")
    with pytest.raises(UsageError, match="weights: 'emma' is not allowed; ema, trained; did you mean 'ema'"):
        bench.load(finished["plain"], weights="emma")


@pytest.mark.slow
def test_scores_are_recomputed_from_the_weights_that_they_are_of(
    finished: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify.main([str(finished["ema"]), "--scores-only", "--offline"]) == 0
    assert "identical to the bit: scores of the stored weights" in capsys.readouterr().out
