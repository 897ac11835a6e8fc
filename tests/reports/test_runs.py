"""From run folders to a frame and a summary; what is left out, and in which words."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import fake_runs
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import reports
from bench.store import records, rows
from reports import groups, page, runs, sections, stats
from reports.tables import tables
from reports.tables import text as to_text


def test_load_gives_a_row_per_run_and_summarise_one_per_configuration(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40, "dcgan": 20}, seeds=range(3), images=False)
    runs = reports.load(tmp_path)
    assert len(runs) == 6
    assert runs["metrics.classifier.fid"].dtype == float
    frame = reports.summarise(runs)
    assert sorted(frame["model"]) == ["dcgan", "vanilla"]
    assert list(frame["n"]) == [3, 3]


def test_statistics_of_a_summary_are_those_of_the_files(tmp_path: Path) -> None:
    folders = fake_runs.study(tmp_path, {"vanilla": 40}, images=False)
    fids = [json.loads((f / "run.json").read_text())["metrics"]["classifier"]["fid"] for f in folders]
    [row] = reports.summarise(reports.load(tmp_path)).to_dict("records")
    name = "metrics.classifier.fid"
    assert row[f"{name}.n"] == 5
    assert row[f"{name}.mean"] == pytest.approx(np.mean(fids))
    assert row[f"{name}.std"] == pytest.approx(np.std(fids, ddof=1))
    assert row[f"{name}.median"] == pytest.approx(np.median(fids))
    assert row[f"{name}.iqm"] == pytest.approx(stats.iqm(fids))
    interval = stats.mean_ci(fids)
    assert (row[f"{name}.ci_low"], row[f"{name}.ci_high"]) == pytest.approx((interval.low, interval.high))


def test_several_roots_are_one_frame_and_a_second_copy_is_named(tmp_path: Path) -> None:
    for root, seed in (("a", 0), ("b", 1), ("c", 1)):
        fake_runs.run(tmp_path / root, seed=seed, images=False)
    runs = reports.load([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert sorted(runs["seed"]) == [0, 1]
    [line] = runs.attrs["skipped"]
    assert str(tmp_path / "c") in line
    assert "the same run as" in line


def test_an_empty_folder_is_an_empty_frame(tmp_path: Path) -> None:
    runs = reports.load(tmp_path)
    assert runs.empty
    assert list(runs["folder"]) == []
    assert groups.groups(runs) == []
    assert reports.summarise(runs).empty


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("cut off", '{"schema": 1, "mod', "not JSON"),
        ("foreign", '{"name": "a package"}', "not a record"),
        ("a list", "[1, 2]", "not a record"),
        ("of another schema", '{"schema": 99}', "schema 99"),
        ("edited", '{"schema": 1, "model": "vanilla"}', "checksum"),
    ],
)
def test_records_that_cannot_be_trusted_are_named_and_skipped(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    bad = fake_runs.run(tmp_path, seed=0, images=False)
    fake_runs.run(tmp_path, seed=1, images=False)
    (bad / "run.json").write_text(text)
    runs = reports.load(tmp_path)
    assert list(runs["seed"]) == [1], name
    [line] = runs.attrs["skipped"]
    assert line.startswith(str(bad / "run.json"))
    assert reason in line


@pytest.mark.parametrize("field", ["model", "task", "seed", "status"])
def test_sealed_records_without_what_is_needed_are_skipped(tmp_path: Path, field: str) -> None:
    fake_runs.run(tmp_path, seed=1, images=False)
    bad = fake_runs.run(tmp_path, seed=0, images=False, fields={field: None})
    runs = reports.load(tmp_path)
    assert list(runs["seed"]) == [1]
    [line] = runs.attrs["skipped"]
    assert line == f"{bad}/run.json: no usable {field!r}"


def test_a_score_that_is_no_number_is_no_score(tmp_path: Path) -> None:
    fake_runs.run(tmp_path, seed=0, images=False)
    fake_runs.run(tmp_path, seed=1, images=False, fields={"metrics.classifier.fid": "low"})
    runs = reports.load(tmp_path)
    assert list(runs["seed"]) == [0]
    assert "metrics.classifier.fid is not a number" in runs.attrs["skipped"][0]


VALUES = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        3.5,
        1e308,
        10**30,
        "",
        "x",
        "\x00",
        [],
        [1],
        ["a"],
        [[1]],
        {},
        {"a": 1},
        {"a": {"b": [1]}},
    ]
)


def change(record: dict[str, Any], data: st.DataObject) -> None:
    """Replace, drop or add one entry somewhere in a record, in place."""
    inner: Any = record
    while True:
        key = data.draw(st.sampled_from(sorted(inner)))
        if not isinstance(inner[key], dict) or not inner[key] or data.draw(st.booleans()):
            break
        inner = inner[key]
    match data.draw(st.sampled_from(["replace", "replace", "drop", "add"])):
        case "replace":
            inner[key] = data.draw(VALUES)
        case "drop":
            del inner[key]
        case "add":
            inner[data.draw(st.sampled_from(["new", "metrics", "a.b", "é"]))] = data.draw(VALUES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every kind, to be changed by :func:`test_no_sealed_record_is_a_traceback`."""
    root = tmp_path_factory.mktemp("whole")
    options: dict[str, Any] = {
        "n_evals": 2,
        "select": "best",
        "conditional": True,
        "n_draws": 2,
        "images": False,
    }
    fake_runs.study(root, {"vanilla": 40}, seeds=range(2), **options)
    fake_runs.run(root, model="wgan", images=False)
    fake_runs.run(root, model="srgan", task="super-resolution", images=False)
    return root


@pytest.mark.slow
@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_sealed_record_is_a_traceback(whole: Path, data: st.DataObject) -> None:
    paths = sorted(whole.glob("runs/*/*/run.json"))
    before = [path.read_text() for path in paths]
    try:
        for path in paths:
            record = json.loads(path.read_text())
            for _ in range(data.draw(st.integers(0, 2))):
                change(record, data)
            path.write_text(json.dumps(records.sealed(record)))
        runs = reports.load(whole)
        found = groups.groups(runs)
        for group in found:
            for table in (tables.scores(group), tables.training(group), tables.sources(group)):
                if table is not None:
                    assert to_text.plain(table)
                    assert to_text.latex(table)
        assert page.render(runs, [sections.section(group, "vanilla") for group in found], [], [])
        assert len(runs) + len(runs.attrs["skipped"]) == len(paths)
    finally:
        for path, text in zip(paths, before, strict=True):
            path.write_text(text)


def test_a_frame_with_many_gaps_is_read_without_a_warning(tmp_path: Path) -> None:
    many = {f"score_{k}": 1.0 for k in range(150)}
    fake_runs.run(tmp_path, images=False, fields={"metrics": {"classifier": many}})
    none = dict.fromkeys(many)
    fake_runs.run(tmp_path, images=False, seed=1, fields={"metrics": {"classifier": none}})
    assert reports.load(tmp_path)["metrics.classifier.score_0"].dtype == float


def test_labels_say_what_sets_configurations_apart(tmp_path: Path) -> None:
    fake_runs.run(tmp_path, images=False)
    fake_runs.run(tmp_path, images=False, hyperparameters={"lr": 1e-3})
    fake_runs.run(tmp_path, images=False, model="dcgan")
    labels = set(reports.summarise(reports.load(tmp_path))["label"])
    assert labels == {"vanilla (lr=0.0002)", "vanilla (lr=0.001)", "dcgan"}


# ---------------------------------------------------------------- what is absent


def test_a_number_that_is_absent_is_nan_and_anything_else_is_none(tmp_path: Path) -> None:
    fake_runs.run(tmp_path, images=False, hyperparameters={"norm": None, "depth": 3})
    fake_runs.run(tmp_path, images=False, hyperparameters={"width": 64}, seed=1, status="failed")
    found = reports.load(tmp_path).sort_values("seed")
    assert [math.isnan(fid) for fid in found["metrics.classifier.fid"]] == [False, True]
    assert list(found["hyperparameters.depth"]) == [3, None]
    assert [type(value) for value in found["hyperparameters.width"]] == [type(None), int]
    assert list(found["d_accuracy.heldout.real"].isna()) == [False, True]
    assert not {"metrics", "d_accuracy", "cost"} & set(found), "an empty object has no column"
    for name in found:
        numeric = name.startswith(rows.NUMERIC) or name in ("seed", "steps")
        assert numeric == (found[name].dtype != object) or name == "protocol", name


def test_null_is_a_value_of_a_hyperparameter_and_absence_is_none(tmp_path: Path) -> None:
    fake_runs.run(tmp_path, images=False, hyperparameters={"norm": None})
    fake_runs.run(tmp_path, images=False, hyperparameters={"norm": "batch"})
    fake_runs.run(tmp_path, images=False)
    labels = set(reports.summarise(reports.load(tmp_path))["label"])
    assert labels == {"vanilla (norm=null)", "vanilla (norm=batch)", "vanilla"}


def test_a_frame_made_again_from_its_records_is_the_same(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40, "dcgan": 20}, seeds=range(2), images=False, n_evals=2)
    fake_runs.run(tmp_path, images=False, seed=2, status="diverged")
    frame = reports.load(tmp_path)
    again = runs.frame(list(frame["record"]), list(frame["folder"]))
    pd.testing.assert_frame_equal(frame, again)
    assert frame["record"].iloc[0] == records.read_record(Path(frame["folder"].iloc[0]))
