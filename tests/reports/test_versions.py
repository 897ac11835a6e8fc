"""Two versions of a model's code in one table: kept apart, labelled, and the files named that differ."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fake_runs
import pandas as pd
import pytest

import reports
from bench.store.jobs import digest
from reports import build, compare, groups, versions
from reports.tables import tables


def code(model: str = "0", training: str = "0", scoring: str = "0", how: str = "source") -> dict[str, Any]:
    """The fingerprint of softgan.py and a helper, the trainer and the scores, each in some version."""
    return {
        "model": {"softgan.py": model.rjust(16, "0"), "baselines/gan.py": "1" * 16},
        "training": {"baselines/training/trainer.py": training.rjust(16, "0")},
        "scoring": {"bench/scoring/metrics.py": scoring.rjust(16, "0")},
        "how": how,
    }


def a_run(root: Path, content: dict[str, Any], day: int | None = None, **options: Any) -> Path:
    """A run of softgan by some code, on some day of November."""
    fields = {"code": content, **options.pop("fields", {})}
    if day is not None:
        fields["environment.time"] = f"2026-11-{day:02}T10:00:00+00:00"
    return fake_runs.run(root, model="softgan", images=False, fields=fields, **options)


def short(content: dict[str, Any], length: int = 4) -> str:
    """What a version is called."""
    return digest({"code.model": content["model"], "code.training": content["training"]})[:length]


def group_of(root: Path) -> groups.Group:
    [group] = groups.groups(reports.load(root))
    return group


def test_the_newest_version_has_the_plain_name(tmp_path: Path) -> None:
    old, new = code("a"), code("b")
    for seed in range(2):
        a_run(tmp_path, old, 3, seed=seed)
        a_run(tmp_path, new, 4, seed=seed, fid=20.0)
    group = group_of(tmp_path)
    assert set(group.summary["label"]) == {"softgan", f"softgan (code {short(old)})"}
    newest = group.summary.set_index("label").loc["softgan"]
    assert newest["metrics.classifier.fid.mean"] == 20.0
    note = f"softgan (code {short(old)}) and softgan differ in softgan.py."
    assert note in tables.scores(group).notes


def test_without_times_no_version_is_plain(tmp_path: Path) -> None:
    a_run(tmp_path, code("a"), 3)
    a_run(tmp_path, code("b"))
    labels = set(group_of(tmp_path).summary["label"])
    assert labels == {f"softgan (code {short(code(name))})" for name in "ab"}


def test_a_trainer_that_differs_is_a_version_too(tmp_path: Path) -> None:
    a_run(tmp_path, code(training="a"), 3)
    a_run(tmp_path, code(training="b", model="c"), 4)
    [note] = [note for note in tables.scores(group_of(tmp_path)).notes if "differ in" in note]
    assert note.endswith("differ in baselines/training/trainer.py and softgan.py.")


def test_versions_stand_beside_hyperparameters(tmp_path: Path) -> None:
    a_run(tmp_path, code("a"), 3)
    a_run(tmp_path, code("b"), 4)
    a_run(tmp_path, code("b"), 4, hyperparameters={"lr": 1e-3})
    assert set(group_of(tmp_path).summary["label"]) == {
        f"softgan (lr=0.0002, code {short(code('a'))})",
        "softgan (lr=0.0002)",
        "softgan (lr=0.001)",
    }


def test_the_short_name_grows_where_four_digits_collide() -> None:
    seen: dict[str, str] = {}
    for k in range(5000):  # a pair that collides in four digits, not in six
        content = code(str(k))
        if (other := seen.setdefault(short(content), str(k))) != str(k):
            break
    else:
        pytest.fail("no collision")
    runs = pd.DataFrame(
        [
            {"id": k, "code.model": code(k)["model"], "code.training": code(k)["training"]}
            for k in (other, str(k))
        ]
    )
    assert {each.name for each in versions.versions(runs)} == {
        f"code {short(code(k), 6)}" for k in (other, str(k))
    }


def test_one_version_is_not_labelled(tmp_path: Path) -> None:
    for seed in range(3):
        a_run(tmp_path, code(), seed + 1, seed=seed)
    group = group_of(tmp_path)
    assert list(group.summary["label"]) == ["softgan"]
    assert not [note for note in tables.scores(group).notes if "code" in note]


def test_the_baseline_is_the_newest_version(tmp_path: Path) -> None:
    for seed in range(2):
        a_run(tmp_path, code("a"), 3, seed=seed, fid=10.0)
        a_run(tmp_path, code("b"), 4, seed=seed, fid=20.0)
    found = compare.comparisons(group_of(tmp_path), "softgan")
    assert set(found[found["baseline"]]["b"]) == {"softgan"}


def test_other_scoring_code_is_another_table_that_names_the_files(tmp_path: Path) -> None:
    a_run(tmp_path, code(scoring="a"), fields={"protocol.code": "a" * 12})
    a_run(tmp_path, code(scoring="b"), fields={"protocol.code": "b" * 12})
    found = groups.groups(reports.load(tmp_path))
    assert sorted(group.title for group in found) == [
        f"generation on digits (scoring code {letter * 12})" for letter in "ab"
    ]
    for group in found:
        assert [note for note in tables.scores(group).notes if "bench/scoring/metrics.py" in note]


def test_records_of_the_first_schema_have_no_code_and_stand_apart(tmp_path: Path) -> None:
    fake_runs.run(tmp_path, images=False)
    path = a_run(tmp_path, code(), fields={"protocol.code": "a" * 12, "protocol.version": None})
    assert path.exists()
    titles = sorted(group.title for group in groups.groups(reports.load(tmp_path)))
    assert titles == ["generation on digits (scoring code aaaaaaaaaaaa)", "generation on digits (version 1)"]


@pytest.mark.slow
def test_a_model_without_source_is_named(tmp_path: Path) -> None:
    a_run(tmp_path, code(how="bytecode"))
    build.build([tmp_path], tmp_path / "report", ("html",), quick=True)
    said = "softgan: no source could be read; the code is identified by its bytecode."
    text = (tmp_path / "report" / "report.html").read_text()
    assert said in text
    assert "<dt>baselines/training/trainer.py</dt><dd>0000000000000000</dd>" in text


@pytest.mark.slow
def test_the_page_says_which_code_makes_older_runs_again(tmp_path: Path) -> None:
    for seed in range(2):
        a_run(tmp_path, code("a"), 3 + seed, seed=seed)
        a_run(tmp_path, code("b"), 5, seed=seed)
    build.build([tmp_path], tmp_path / "report", ("html",), quick=True)
    text = (tmp_path / "report" / "report.html").read_text()
    assert text.count("in place, whose files are listed below") == 1
    assert f"Only with code {short(code('a'))} in place" in text
    assert "<dt>time</dt><dd>2026-11-03T10:00:00+00:00 to 2026-11-04T10:00:00+00:00</dd>" in text


def test_runs_csv_holds_the_files_as_one_cell(tmp_path: Path) -> None:
    a_run(tmp_path, code())
    build.build([tmp_path], tmp_path / "report", ("csv",))
    [cell] = pd.read_csv(tmp_path / "report" / "runs.csv")["code.model"]
    assert json.loads(cell) == code()["model"]
    assert not [name for name in reports.load(tmp_path) if "softgan.py" in str(name)]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("x", "code is not an object"),
        ({"model": "x"}, "code.model is not a mapping of files to digests"),
        ({"model": {"a": 1}}, "code.model is not a mapping of files to digests"),
        ({"scoring": [1]}, "code.scoring is not a mapping of files to digests"),
        ({"how": 3}, "code.how is not a word"),
    ],
)
def test_odd_code_is_skipped_by_name(tmp_path: Path, content: Any, problem: str) -> None:
    a_run(tmp_path, content)
    fake_runs.run(tmp_path, images=False)
    runs = reports.load(tmp_path)
    assert len(runs) == 1
    [line] = runs.attrs["skipped"]
    assert line.endswith(problem)


def test_empty_code_is_unknown(tmp_path: Path) -> None:
    for seed, content in enumerate(({}, {"model": {}}, {"training": {"a": "1"}}, {"model": {"a": "1"}})):
        a_run(tmp_path, content, seed=seed)
    labels = set(group_of(tmp_path).summary["label"])
    assert any("code unknown" in label for label in labels)
    assert re.search(
        "nothing that is on record|not on record", " ".join(tables.scores(group_of(tmp_path)).notes)
    )
