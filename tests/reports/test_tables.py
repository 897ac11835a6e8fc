"""From made-up run folders to groups, summaries and tables."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import fake_runs
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import reports
from bench.store import records
from reports import compare, page, published, stats, summary, tables
from reports import text as to_text
from reports.summary import Group
from reports.text import Table


def only_group(root: Path) -> Group:
    [group] = summary.groups(reports.load(root))
    return group


def cell(table: Table, row: str, column: str) -> to_text.Cell:
    """The cell at a row's name and a column's label."""
    [found] = [r for r in table.rows if r.name == row]
    return found.cells[[c.label for c in table.columns].index(column)]


# ---------------------------------------------------------------- load and summarise


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
    assert summary.groups(runs) == []
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


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
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
        found = summary.groups(runs)
        compared = {group.number: compare.comparisons(group) for group in found}
        for group in found:
            for table in (tables.scores(group), tables.training(group), tables.sources(group)):
                if table is not None:
                    assert to_text.plain(table)
                    assert to_text.latex(table)
        assert page.render(runs, found, compared, [], {group.number: {} for group in found}, [])
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


# ---------------------------------------------------------------- honesty


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
    found = summary.groups(reports.load(tmp_path))
    assert sorted(list(group.summary["model"]) for group in found) == [["dcgan"], ["vanilla"]]
    assert list(found[0].apart) == list(found[1].apart) == [field]  # and the difference is named
    assert field in found[1].title


def test_tasks_and_datasets_are_apart_without_a_remark(tmp_path: Path) -> None:
    fake_runs.run(tmp_path, images=False)
    fake_runs.run(tmp_path, images=False, dataset="mnist")
    fake_runs.run(tmp_path, images=False, model="srgan", task="super-resolution")
    titles = {group.title for group in summary.groups(reports.load(tmp_path))}
    assert titles == {"generation on digits", "generation on mnist", "super-resolution on digits"}


def test_failed_runs_are_counted_and_named(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(3), images=False)
    fake_runs.run(tmp_path, seed=3, status="diverged", images=False)
    fake_runs.run(tmp_path, seed=4, status="failed", images=False)
    table = tables.scores(only_group(tmp_path))
    assert cell(table, "vanilla", "Failures").text == "2/5"
    assert cell(table, "vanilla", "Near ½").text == "3/5"
    assert any("diverged (seed 3)" in note and "failed (seed 4)" in note for note in table.notes)


def test_missing_seeds_are_named(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(5), images=False)
    fake_runs.study(tmp_path, {"dcgan": 20}, seeds=(0, 4), images=False)
    assert "No run of seed 1-3: dcgan." in tables.scores(only_group(tmp_path)).notes


def test_a_model_that_always_fails_stays_in_the_table(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(2), images=False)
    fake_runs.study(tmp_path, {"dcgan": 20}, seeds=range(2), images=False, status="diverged")
    table = tables.scores(only_group(tmp_path))
    assert cell(table, "dcgan", "FID").text == to_text.NOTHING
    assert cell(table, "dcgan", "Failures").text == "2/2"
    assert table.rows[-1].name == "dcgan"


def test_a_group_in_which_every_run_failed(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(2), images=False, status="failed")
    group = only_group(tmp_path)
    assert [row.name for row in tables.scores(group).rows if row.kind == "model"] == ["vanilla"]
    assert tables.training(group).rows
    assert compare.comparisons(group).empty


def test_the_caption_states_the_protocol(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False)
    group = only_group(tmp_path)
    weights = group.protocol["extractors.classifier.sha256"][:8]
    caption = tables.scores(group).caption
    for part in ("5 training seeds (0-4)", "400 generator updates", "digits", "360 samples", "test", weights):
        assert part in caption


# ---------------------------------------------------------------- the main table


def test_cells_and_marks_by_hand(tmp_path: Path) -> None:
    for model, fids in {"a": [10, 12, 14, 16], "b": [11, 13, 15, 17], "c": [50, 52, 54, 57]}.items():
        for seed, fid in enumerate(fids):
            fake_runs.run(tmp_path, model=model, seed=seed, fid=float(fid), images=False)
    table = tables.scores(only_group(tmp_path))
    assert [row.name for row in table.rows] == ["real data", "a", "b", "c"]
    first, second, third = (cell(table, name, "FID") for name in "abc")
    assert first.text == "13.0 ± 2.6"
    assert (first.rank, second.rank, third.rank) == (1, 2, 0)
    # 2/70 = 0.029 is 0.086 over three pairs: with four seeds nothing can pass, so nothing is marked.
    assert (first.tied, second.tied, third.tied) == (False, False, False)
    assert any("it takes 5 seeds a model" in note for note in table.notes)
    for model, fids in {"a": [11], "b": [12], "c": [51]}.items():
        fake_runs.run(tmp_path, model=model, seed=4, fid=float(fids[0]), images=False)
    table = tables.scores(only_group(tmp_path))
    assert [cell(table, name, "FID").tied for name in "abc"] == [False, True, False]


def test_a_model_whose_runs_fail_is_not_the_best(tmp_path: Path) -> None:
    """Its surviving seeds are better than all of the other's: neither ranked nor better in the tests."""
    fake_runs.study(tmp_path, {"solid": 26}, seeds=range(6), spread=0.5, images=False)
    fake_runs.study(tmp_path, {"shaky": 20}, seeds=range(3), spread=0.5, images=False)
    fake_runs.study(tmp_path, {"shaky": 20}, seeds=range(3, 6), images=False, status="diverged")
    group = only_group(tmp_path)
    table = tables.scores(group)
    assert (cell(table, "solid", "FID").rank, cell(table, "shaky", "FID").rank) == (1, 0)
    assert any("shaky" in note and "not ranked" in note for note in table.notes)
    (pair,) = compare.comparisons(group, "solid").query("family == 'baseline'").to_dict("records")
    assert (pair["a"], pair["improvement"]) == ("shaky", 0.5)
    assert pair["p_holm"] > 0.05
    assert pair["mean_a"] < 22


def test_cautions(tmp_path: Path) -> None:
    wide = {"protocol.extractors.classifier.feature_dim": 512}
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False, fields=wide)
    fake_runs.study(tmp_path, {"cgan": 30}, images=False, fields=wide, conditional=True)
    notes = tables.scores(only_group(tmp_path)).notes
    assert [note for note in notes if note.startswith("cgan: asked for classes")]
    assert [note for note in notes if "360 samples in the 512 dimensions" in note]


def test_separated_models_are_not_marked(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 20, "b": 80}, spread=1.0, images=False)
    assert not cell(tables.scores(only_group(tmp_path)), "b", "FID").tied


def test_higher_is_better_where_it_is(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 20, "b": 80}, spread=1.0, images=False)
    table = tables.scores(only_group(tmp_path))
    assert cell(table, "a", "IS").rank == cell(table, "a", "Precision").rank == 1
    assert {c.label: c.better for c in table.columns}["Recall"] == "higher"


def test_one_seed_has_no_spread_and_no_mark(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 20, "b": 80}, seeds=[0], images=False)
    table = tables.scores(only_group(tmp_path))
    assert "±" not in cell(table, "a", "FID").text
    assert not any(c.tied for row in table.rows for c in row.cells)
    assert any("One seed" in note for note in table.notes)


def test_equal_models_are_not_ranked(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a": 20, "b": 21}, images=False)
    table = tables.scores(only_group(tmp_path))
    assert cell(table, "a", "Modes").text == "10 ± 0"
    assert cell(table, "a", "Modes").rank == cell(table, "b", "Modes").rank == 0


def test_the_floor_stands_above_the_models(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False)
    floor = tables.scores(only_group(tmp_path)).rows[0]
    assert (floor.name, floor.kind) == ("real data", "reference")
    assert floor.cells[0].value == fake_runs.FLOOR_FID["classifier"]


def test_optional_columns_appear_where_somebody_has_them(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, seeds=range(2), images=False)
    assert "Cond. acc." not in [c.label for c in tables.scores(only_group(tmp_path)).columns]
    fake_runs.study(tmp_path, {"cgan": 30}, seeds=range(2), images=False, conditional=True)
    table = tables.scores(only_group(tmp_path))
    assert cell(table, "vanilla", "Cond. acc.").text == to_text.NOTHING
    assert 0 < cell(table, "cgan", "Cond. acc.").value < 1


def test_each_extractor_has_its_columns(tmp_path: Path) -> None:
    both = ("classifier", "inception-v3-compat")
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False, extractors=both)
    spans = to_text.spans(tables.scores(only_group(tmp_path)))
    assert [name for name, _ in spans] == [*both, ""]


def test_super_resolution_has_bicubic_as_the_row_to_beat(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"a-worse": 60, "srgan": 20}, images=False, task="super-resolution")
    table = tables.scores(only_group(tmp_path))
    assert [row.name for row in table.rows] == ["bicubic", "srgan", "a-worse"]  # more dB first
    assert cell(table, "bicubic", "PSNR (dB)").value == pytest.approx(24.1)


def test_best_step_beside_the_final_one(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False, select="best", n_evals=4)
    group = only_group(tmp_path)
    table = tables.scores(group)
    assert cell(table, "vanilla", "FID at best step").value < cell(table, "vanilla", "FID").value
    assert cell(tables.training(group), "vanilla", "Best step").value == 300


def test_the_second_table(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40, "wgan_gp": 30}, images=False)
    table = tables.training(only_group(tmp_path))
    assert cell(table, "vanilla", "Trainable").text == "920,641"
    assert cell(table, "wgan_gp", "real").text == to_text.NOTHING  # no training accuracy without a threshold
    assert [note for note in table.notes if note.startswith("wgan_gp: no natural threshold")]
    heads = [name for name, _ in to_text.spans(table)]
    assert heads == ["", "D acc. in training, %", "D acc. held out, %", "", "Mean cost"]


def test_sources_of_spread_where_there_are_several_draws(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40}, images=False)
    assert tables.sources(only_group(tmp_path)) is None
    folders = fake_runs.study(tmp_path / "more", {"vanilla": 40}, images=False, n_draws=4)
    fake_runs.run(tmp_path / "more", dataset="mnist", images=False)
    found = {
        group.dataset: tables.sources(group) for group in summary.groups(reports.load(tmp_path / "more"))
    }
    assert found["mnist"] is None
    table = found["digits"]
    assert table is not None
    draws = [json.loads((f / "run.json").read_text())["draws"]["classifier"]["fid"] for f in folders]
    split = stats.variance_components(draws)
    assert cell(table, "vanilla", "FID, training").value == pytest.approx(split.training)
    assert cell(table, "vanilla", "FID, sampling").value == pytest.approx(split.sampling)
    bad = fake_runs.run(tmp_path / "bad", images=False, fields={"draws": {"classifier": {"fid": ["low"]}}})
    assert reports.load(tmp_path / "bad").attrs["skipped"] == [
        f"{bad}/run.json: draws.classifier.fid is not a list of numbers"
    ]


def test_comparisons_with_the_baseline_and_of_all_pairs(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 60, "a": 20, "b": 21}, spread=1.0, images=False)
    group = only_group(tmp_path)
    found = compare.comparisons(group)
    against = found[found["family"] == "baseline"].set_index("a")
    assert list(against["b"]) == ["vanilla", "vanilla"]
    assert against.loc["a", "p"] == pytest.approx(2 / 252)
    assert against.loc["a", "p_holm"] == pytest.approx(4 / 252)
    assert against.loc["a", "improvement"] == 1.0
    assert len(found[found["family"] == "all pairs"]) == 3
    assert tables.pairs(group, found, "baseline") is not None
    assert compare.comparisons(group, "nobody")["family"].unique().tolist() == ["all pairs"]


# ---------------------------------------------------------------- published figures


def lucic(**changes: object) -> dict[str, object]:
    """A run under the published protocol, but for the changes."""
    settings = published.LUCIC.settings(str(changes.get("model", "nsgan")))
    run = {"model": "nsgan", "dataset": "mnist", "steps": 15_625, **published.PROTOCOL}
    return run | {f"hyperparameters.{name}": value for name, value in settings.items()} | changes


def fields(**changes: object) -> list[published.Difference]:
    """The differences that flags can change; the others come last."""
    run = lucic(**changes)
    code = list(published.CODE[str(run["model"])])
    differences = published.compare(run)
    assert differences[-len(code) :] == code
    return differences[: -len(code)]


def test_the_published_protocol_matches_itself_alone() -> None:
    assert fields() == []
    for model in published.FID["mnist"]:
        assert fields(model=model) == []
        named = [f"hyperparameters.{name}" for name in published.LUCIC.settings(model)]
        for name in (*published.PROTOCOL, *named):
            [difference] = fields(model=model, **{name: "something else"})
            assert difference.name == name.rpartition(".")[2]
            assert difference.ours == "something else"
    [difference] = fields(steps=1)
    assert str(difference) == "discriminator updates 1 (theirs: 15625)"


def test_published_training_is_as_long_in_discriminator_updates() -> None:
    n_critic = "hyperparameters.n_critic"
    assert fields(model="wgan", steps=3_125, **{n_critic: 5}) == []
    assert fields(steps=7_812.0, **{n_critic: 2.0}) == []  # whole iterations, in a column with gaps
    [difference] = fields(model="wgan", **{n_critic: 5})
    assert str(difference) == "discriminator updates 78125 (theirs: 15625)"
    for nothing in (None, "many", float("inf"), [1]):
        [difference] = fields(steps=nothing, **{n_critic: nothing})
        assert difference.ours == 0


def test_what_their_code_does_otherwise_is_named_for_each_model() -> None:
    assert published.CODE.keys() == published.FID["mnist"].keys() == published.LUCIC.models.keys()
    said = {model: [each.name for each in found] for model, found in published.CODE.items()}
    assert "slopes" in said["wgan_gp"]
    assert "slopes" in said["dragan"]
    assert "slopes" not in said["wgan"]


def test_a_published_figure_is_shown_only_beside_its_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"extractors": [published.EXTRACTOR], "dataset": "mnist", "images": False}
    fake_runs.study(tmp_path, {"nsgan": 7, "vanilla": 30}, **run)
    table = tables.scores(only_group(tmp_path))
    assert "nsgan, published" not in [row.name for row in table.rows]
    [note] = [note for note in table.notes if "Lucic" in note]
    assert "n_fake 360 (theirs: 10000)" in note
    monkeypatch.setattr(published, "compare", lambda run: [])
    table = tables.scores(only_group(tmp_path))
    assert cell(table, "nsgan, published", "FID").text == "6.8 ± 0.5"
    assert "vanilla, published" not in [row.name for row in table.rows]


# ---------------------------------------------------------------- as text

HOSTILE = [
    r"a_b%c&d#e$f{g}h~i^j",
    r"\input{/etc/passwd}",
    "*starred [option] ]",
    "<script>alert(1)</script>",
    "a|b\nc\td\x00",
    "中文 \U0001f600 é",
    "`code` 'quote' \"double\"",
]


def a_table(name: str, text: str = "1.0 ± 0.1") -> Table:
    """One row."""
    columns = (to_text.Column("group", "FID", "lower"), to_text.Column("group", "IS", "higher"))
    row = to_text.Row(name, "model", (to_text.Cell(text, 1.0, 1), to_text.Cell(text, 1.0, 2, True)))
    return Table(name, name, columns, (row,), (name,))


def test_markdown() -> None:
    shown = to_text.markdown(a_table("vanilla"))
    assert "| Model | FID ↓ | IS ↑ |" in shown
    assert "| vanilla | **1.0 ± 0.1** | <ins>1.0 ± 0.1</ins>† |" in shown


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_a_markdown_table(name: str) -> None:
    lines = [line for line in to_text.markdown(a_table(name)).splitlines() if line.startswith("| ")]
    assert len(lines) == 3
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in lines)
    assert "<script" not in to_text.markdown(a_table(name))


def braces_match(text: str) -> bool:
    """Whether unescaped braces are balanced."""
    depth = 0
    for brace in re.findall(r"(?<!\\)(?:\\\\)*([{}])", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


@pytest.mark.parametrize("name", HOSTILE)
def test_latex_has_the_structure_of_a_booktabs_table(name: str) -> None:
    text = to_text.latex(a_table(name))
    for part in ("table*", "tabular"):
        assert text.count(rf"\begin{{{part}}}") == text.count(rf"\end{{{part}}}") == 1
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(rf"\{rule}") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert all(len(re.findall(r"(?<!\\)&", row)) in (1, 2) for row in rows)
    assert r"\multicolumn{2}{c}{group}" in text
    assert r"\cmidrule(lr){2-3}" in text
    assert r"\textbf{1.0 $\pm$ 0.1}" in text
    assert r"\underline{1.0 $\pm$ 0.1}\rlap{$^\dagger$}" in text
    assert r"\input" not in text
    assert braces_match(text)
    assert text.isascii() or "é" in name


def test_what_is_too_wide_for_print_is_split(tmp_path: Path) -> None:
    both = ("classifier", "inception-v3-compat")
    fake_runs.study(tmp_path, {"cgan": 40}, images=False, extractors=both, conditional=True)
    table = tables.scores(only_group(tmp_path))
    parts = to_text.fitted(table)
    assert len(parts) > 1
    assert [c for part in parts for c in part.columns] == list(table.columns)
    for k, row in enumerate(table.rows):
        assert [c for part in parts for c in part.rows[k].cells] == list(row.cells)
    assert len({part.title for part in parts}) == len(parts)
    assert to_text.fitted(a_table("narrow")) == [a_table("narrow")]
    shown = to_text.plain(table, 80).splitlines()
    grid = shown[: shown.index("", 2 + 2)]
    assert max(map(len, grid)) <= 80
    assert sum(line.startswith("cgan") for line in shown) > 1


def test_long_names_break_in_print() -> None:
    name = "vanilla (" + "latent_dim=64, " * 5 + ")"
    assert rf"\parbox[t]{{15em}}{{\raggedright {to_text.escape_latex(name)}}} &" in to_text.latex(
        a_table(name)
    )


@given(st.text())
def test_escaped_latex_holds_no_active_character(text: str) -> None:
    escaped = to_text.escape_latex(text)
    rest = re.sub(r"\\text[a-z]+\{\}|\\texttt\{U\+[0-9A-F]+\}|\\[{}_%&#$]|\{[*\[\]]\}", "", escaped)
    for formula in ("$\\pm$", "$\\times$", "$\\cdot$", "$^3$", "$\\frac12$", "$\\downarrow$", "$\\uparrow$"):
        rest = rest.replace(formula, "")
    rest = rest.replace("$^\\dagger$", "")
    assert not set(rest) & set("\\{}_%&#$^~\n*[]")


def test_plain_text_is_aligned(tmp_path: Path) -> None:
    fake_runs.study(tmp_path, {"vanilla": 40, "dcgan": 20}, images=False)
    title, _, head, *rows = tables.plain(tables.scores(only_group(tmp_path))).splitlines()
    assert title == "Scores: generation on digits"
    assert head.split()[:2] == ["FID", "↓"]
    assert [row.split()[0] for row in rows[:3]] == ["real", "dcgan", "vanilla"]
    assert len({row.index("±") for row in rows[1:3]}) == 1
    assert rows[1].split()[3].endswith("*")
    assert "*: best; +: second." in rows


@pytest.mark.parametrize(
    ("seconds", "texts"),
    [
        ([9.54, 119, math.nan], ["9.5 s", "119.0 s", "—"]),
        ([125, 9000], ["2.1 min", "150.0 min"]),
        ([9000], ["2.5 h"]),
        ([math.nan], ["—"]),
    ],
)
def test_durations_are_for_people_in_one_unit(seconds: list[float], texts: list[str]) -> None:
    assert [cell.text for cell in tables.durations(pd.Series(seconds))] == texts


@pytest.mark.parametrize(
    ("numbers", "text"), [([0, 1, 2, 5], "0-2, 5"), ([3], "3"), ([1, 2], "1, 2"), ([4, 0, 2], "0, 2, 4")]
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert summary.ranges(numbers) == text
