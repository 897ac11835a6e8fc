"""Which runs share a table, and what the table says of runs that failed or are missing."""

from __future__ import annotations

from pathlib import Path

import fake_runs
import pytest
from drawn import cell, group_of

import reports
from reports import compare, groups
from reports.tables import tables
from reports.tables import text as to_text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_fake", 100),
        ("scored_on", "val"),
        ("version", "2"),
        ("kid_subset_size", 50),
        ("extractors.classifier.sha256", "0" * 60),
        ("dataset.sha256", "1" * 60),
        ("dataset.n_train", 1000),
    ],
)
def test_different_protocols_never_share_a_table(tmp_path: Path, field: str, value: object) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(2), images=False)
    fields = {f"protocol.{field}": value}
    fake_runs.study(tmp_path, {"dcgan": 20}, seeds=range(2), images=False, fields=fields)
    found = groups.groups(reports.load(tmp_path))
    assert sorted(list(group.summary["model"]) for group in found) == [["dcgan"], ["vanilla"]]
    assert list(found[0].apart) == list(found[1].apart) == [field]  # and the difference is named
    assert field in found[1].title


def test_tasks_and_datasets_are_apart_without_a_remark(tmp_path: Path) -> None:
    fake_runs.run(tmp_path, images=False)
    fake_runs.run(tmp_path, images=False, dataset="mnist")
    fake_runs.run(tmp_path, images=False, model="srgan", task="super-resolution")
    titles = {group.title for group in groups.groups(reports.load(tmp_path))}
    assert titles == {"generation on digits", "generation on mnist", "super-resolution on digits"}


def test_failed_runs_are_counted_and_named(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(3), images=False)
    fake_runs.run(tmp_path, seed=3, status="diverged", images=False)
    fake_runs.run(tmp_path, seed=4, status="failed", images=False)
    table = tables.scores(group_of(tmp_path))
    assert cell(table, "vanilla", "Failures").text == "2/5"
    assert cell(table, "vanilla", "Near ½").text == "3/5"
    assert any("diverged (seed 3)" in note and "failed (seed 4)" in note for note in table.notes)


def test_missing_seeds_are_named(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(5), images=False)
    fake_runs.study(tmp_path, {"dcgan": 20}, seeds=(0, 4), images=False)
    assert "No run of seeds 1-3: dcgan." in tables.scores(group_of(tmp_path)).notes


def test_a_model_that_always_fails_stays_in_the_table(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(2), images=False)
    fake_runs.study(tmp_path, {"dcgan": 20}, seeds=range(2), images=False, status="diverged")
    table = tables.scores(group_of(tmp_path))
    assert cell(table, "dcgan", "FID").text == to_text.NOTHING
    assert cell(table, "dcgan", "Failures").text == "2/2"
    assert table.rows[-1].name == "dcgan"


def test_a_group_in_which_every_run_failed(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(2), images=False, status="failed")
    group = group_of(tmp_path)
    assert [row.name for row in tables.scores(group).rows if row.kind == "model"] == ["vanilla"]
    assert tables.training(group).rows
    assert compare.comparisons(group).empty


def test_the_caption_states_the_protocol(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False)
    group = group_of(tmp_path)
    weights = group.protocol["extractors.classifier.sha256"][:8]
    caption = tables.scores(group).caption
    for part in ("5 training seeds (0-4)", "400 generator updates", "digits", "360 samples", "test", weights):
        assert part in caption
